{{- define "controller.parserImage" -}}
{{ printf "%s%s:%s" (include "ome.registry" .) .Values.parserImage.repository (.Values.parserImage.tag | default .Chart.AppVersion) | quote }}
{{- end }}
