{% test unique_rows(model, columns) %}
{# No two rows have the same values in all of these columns; null equals null. #}
SELECT {{ columns | join(', ') }}, count(*) AS same_rows FROM {{ model }} GROUP BY {{ columns | join(', ') }} HAVING count(*) > 1
{% endtest %}
