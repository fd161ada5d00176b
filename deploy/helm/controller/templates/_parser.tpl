{{- define "controller.parserImage" -}}
{{ include "ome.imageOf" (dict "root" . "image" .Values.parserImage "name" "parserImage" "service" "parser") }}
{{- end }}
