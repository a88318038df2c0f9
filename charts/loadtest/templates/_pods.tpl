{{/* Names, labels, and what the two kinds of pods have in common. */}}

{{- define "loadtest.name" -}}
{{- $full := ternary .Release.Name (printf "%s-loadtest" .Release.Name) (contains "loadtest" .Release.Name) -}}
{{- if gt (len $full) 50 -}}
{{- printf "%s-%s" ($full | trunc 41 | trimSuffix "-") (sha256sum $full | trunc 8) -}}
{{- else -}}
{{- $full -}}
{{- end -}}
{{- end -}}

{{- define "loadtest.selector" -}}
app.kubernetes.io/name: loadtest
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "loadtest.labels" -}}
{{ include "loadtest.selector" . }}
app.kubernetes.io/part-of: auth-service
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{/* The spec of a pod. Takes root, component, args, resources, and perhaps account. */}}
{{- define "loadtest.podSpec" -}}
{{- $root := .root -}}
restartPolicy: Never
enableServiceLinks: false
automountServiceAccountToken: {{ hasKey . "account" }}
{{- with .account }}
serviceAccountName: {{ . }}
{{- end }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
# On SIGTERM it ends the run and keeps what it has.
terminationGracePeriodSeconds: 30
securityContext:
  runAsNonRoot: true
  {{- with $root.Values.userId }}
  runAsUser: {{ int64 . }}
  runAsGroup: {{ int64 . }}
  fsGroup: {{ int64 . }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- range $key, $value := $root.Values.podSpec }}
{{- if $value }}
{{ $key }}: {{- toYaml $value | nindent 2 }}
{{- end }}
{{- end }}
containers:
  - name: {{ .component }}
    {{- $image := $root.Values.image }}
    image: {{ ternary (printf "%s@%s" $image.repository $image.digest) (printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion)) (ne $image.digest "") }}
    imagePullPolicy: {{ $image.pullPolicy }}
    args: {{- toYaml .args | nindent 6 }}
    env:
      {{- range $key, $value := $root.Values.plan }}
      - {name: LOAD_{{ $key | snakecase | upper }}, value: {{ ternary (toString (int64 $value)) (toString $value) (and (kindIs "float64" $value) (eq (float64 (int64 $value)) $value)) | quote }}}
      {{- end }}
      - {name: LOAD_NAME, value: {{ $root.Release.Name | trunc 40 | trimSuffix "-" | quote }}}
      - {name: LOAD_URL, value: {{ required "target.url is missing: name the service as pods reach it, for example http://auth-auth-service." $root.Values.target.url | quote }}}
      - {name: LOAD_CLIENTS_FILE, value: /clients/clients.json}
      - {name: LOAD_WORKERS, value: {{ int64 $root.Values.workers | quote }}}
      - {name: LOAD_WAIT_SECONDS, value: {{ int64 $root.Values.waitSeconds | quote }}}
      {{- if eq .component "leader" }}
      - {name: LOAD_RESULT, value: /tmp/run.json}
      - {name: LOAD_RELEASE, value: {{ $root.Values.target.release | quote }}}
      - {name: LOAD_CONFIG_MAP, value: {{ include "loadtest.name" $root }}}
      - {name: LOAD_ENVIRONMENT, value: {{ $root.Values.environment | default dict | toJson | quote }}}
      {{- if $root.Values.thresholds }}
      - {name: LOAD_THRESHOLDS, value: /thresholds/thresholds.toml}
      {{- end }}
      {{- end }}
    resources: {{- toYaml .resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      - {name: clients, mountPath: /clients, readOnly: true}
      {{- if and (eq .component "leader") $root.Values.thresholds }}
      - {name: thresholds, mountPath: /thresholds, readOnly: true}
      {{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 256Mi}
  - name: clients
    secret: {secretName: {{ required "target.clientsSecret is missing: name the Secret with clients.json." $root.Values.target.clientsSecret }}}
  {{- if and (eq .component "leader") $root.Values.thresholds }}
  - name: thresholds
    configMap: {name: {{ include "loadtest.name" $root }}-thresholds}
  {{- end }}
{{- end -}}

{{/* How long a Job may take: the waits before, the plan, and the end. */}}
{{- define "loadtest.deadline" -}}
{{ add (int64 .Values.waitSeconds) (int64 .Values.plan.seconds) 300 }}
{{- end -}}
