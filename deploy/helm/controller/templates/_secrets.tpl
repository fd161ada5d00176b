{{- define "controller.reservedSecrets" -}}
{{- $names := concat (list .Values.nats.passwordSecret .Values.nats.issuerSecret .Values.nats.gateway.passwordSecret .Values.nats.gateway.nodesPasswordSecret) .Values.reservedSecrets }}
{{- range .Values.imagePullSecrets }}
{{- $names = append $names .name }}
{{- end }}
{{- uniq $names | join "," }}
{{- end }}
