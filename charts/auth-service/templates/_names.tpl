{{/* Names, labels and images. */}}

{{- define "auth-service.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Prefix of all names; short enough for the longest suffix and for what Kubernetes appends to it. */}}
{{- define "auth-service.fullname" -}}
{{- $name := include "auth-service.name" . -}}
{{- $default := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- $full := default $default .Values.fullnameOverride -}}
{{- if gt (len $full) 40 -}}
{{- /* Two long names that begin alike must not become one. */ -}}
{{- printf "%s-%s" ($full | trunc 31 | trimSuffix "-") (sha256sum $full | trunc 8) -}}
{{- else -}}
{{- $full -}}
{{- end -}}
{{- end -}}

{{/* What never changes in the life of a release: selectors are immutable. Takes (dict "root" $ "component" "auth"). */}}
{{- define "auth-service.selector" -}}
app.kubernetes.io/name: {{ include "auth-service.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "auth-service.labels" -}}
{{- $own := include "auth-service.selector" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/part-of" (include "auth-service.name" .root) -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $own "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63) -}}
{{- /* The chart's own win: selectors and Helm live by them. */ -}}
{{ merge $own (.root.Values.commonLabels | default dict) | toYaml }}
{{- end -}}

{{/* Takes an image of the values and the tag it has by default. */}}
{{- define "auth-service.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .tag }}
{{- end -}}
{{- end -}}

{{- define "auth-service.serviceImage" -}}
{{ include "auth-service.image" (dict "image" .Values.image "tag" .Chart.AppVersion) }}
{{- end -}}

{{- define "auth-service.secretName" -}}
{{ .Values.secrets.existingSecret | default (printf "%s-secrets" (include "auth-service.fullname" .)) }}
{{- end -}}

{{/* Where clients find the service. */}}
{{- define "auth-service.issuer" -}}
{{- $nginx := .Values.nginx -}}
{{- if .Values.issuer -}}
{{ .Values.issuer }}
{{- else if and $nginx.httpRoute.enabled $nginx.httpRoute.hostnames -}}
https://{{ first $nginx.httpRoute.hostnames }}{{ .Values.basePath }}
{{- else if and $nginx.ingress.enabled $nginx.ingress.host -}}
{{ ternary "https" "http" (ne $nginx.ingress.tlsSecretName "") }}://{{ $nginx.ingress.host }}{{ .Values.basePath }}
{{- else if $nginx.tls.secretName -}}
https://{{ include "auth-service.fullname" . }}.{{ .Release.Namespace }}.svc{{ if ne (int $nginx.tls.port) 443 }}:{{ $nginx.tls.port }}{{ end }}{{ .Values.basePath }}
{{- else -}}
{{ include "auth-service.url" . }}
{{- end -}}
{{- end -}}

{{/* A value as text: Helm reads numbers as floats, and would write a million as 1e+06. */}}
{{- define "auth-service.plain" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* The same, inside the cluster. */}}
{{- define "auth-service.url" -}}
{{- $service := .Values.nginx.service -}}
http://{{ include "auth-service.fullname" . }}.{{ .Release.Namespace }}.svc{{ if ne (int $service.port) 80 }}:{{ $service.port }}{{ end }}{{ .Values.basePath }}
{{- end -}}

{{/* How many pods, from and to. Takes both. */}}
{{- define "auth-service.podsInWords" -}}
{{- $least := index . 0 -}}
{{- $most := index . 1 -}}
{{- if eq $least $most -}}
{{- $most }} pod{{ ne $most "1" | ternary "s" "" }}
{{- else -}}
{{- $least }} to {{ $most }} pods
{{- end -}}
{{- end -}}
