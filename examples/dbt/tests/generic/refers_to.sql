{% test refers_to(model, columns, to) %}
{# Where none of these columns is null, the row that they name exists. #}
SELECT DISTINCT {{ columns | join(', ') }} FROM {{ model }} AS named
WHERE {% for column in columns %}named.{{ column }} IS NOT NULL AND {% endfor %}NOT EXISTS (
    SELECT 1 FROM {{ to }} AS target
    WHERE {% for column in columns %}target.{{ column }} = named.{{ column }}{% if not loop.last %} AND {% endif %}{% endfor %}
)
{% endtest %}
