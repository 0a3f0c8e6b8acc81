{% test never_null(model, columns) %}
{# None of these columns is null in any row: not_null of all of them in one reading of the view. #}
SELECT {{ columns | join(', ') }} FROM {{ model }} WHERE {% for column in columns %}{{ column }} IS NULL{% if not loop.last %} OR {% endif %}{% endfor %}
{% endtest %}
