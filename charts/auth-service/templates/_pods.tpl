{{/* What all pods have in common. */}}

{{/* The spec of a pod but its containers and volumes. Takes root, component, values (the component's), and perhaps account, hash. */}}
{{- define "auth-service.pod" -}}
{{- $spec := dict -}}
{{- range $key, $value := (.values).podSpec -}}
{{- if $value -}}{{- $_ := set $spec $key $value -}}{{- end -}}
{{- end -}}
{{/* A release named `auth` would give every pod variables named AUTH_..., which the service refuses. */}}
enableServiceLinks: false
automountServiceAccountToken: {{ hasKey . "account" }}
{{- with .account }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- with .root.Values.userId }}
  runAsUser: {{ int64 . }}
  runAsGroup: {{ int64 . }}
  fsGroup: {{ int64 . }}
  {{- end }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
  {{- $tuning := .root.Values.tuning }}
  {{- $sysctls := merge (dict) ($tuning.unsafeSysctls | default dict) ($tuning.sysctls | default dict) }}
  {{- if and .values $sysctls }}
  sysctls:
    {{- range $name, $value := $sysctls }}
    - {name: {{ $name }}, value: {{ $value | quote }}}
    {{- end }}
  {{- end }}
{{- if and .hash (not (or $spec.affinity $spec.topologySpreadConstraints)) }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "auth-service.selector" . | nindent 14 }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "auth-service.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- with $spec }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels and annotations of a pod. Takes root, component, values. */}}
{{- define "auth-service.podMetadata" -}}
labels:
  {{- /* Nothing of the chart's version: a release that changes no pod must not roll it. */}}
  {{- $own := include "auth-service.selector" . | fromYaml }}
  {{- merge $own ((.values).podLabels | default dict) (.root.Values.commonLabels | default dict) | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) ((.values).podAnnotations | default dict) }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "auth-service.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* An exporter beside a server. Takes root, exporter (the group of the values), tag, port, alive (a path that asks the server nothing), args,
     and perhaps mounts. */}}
{{- define "auth-service.exporter" -}}
- name: exporter
  image: {{ include "auth-service.image" (dict "image" .exporter.image "tag" .tag) }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: {{- toYaml .args | nindent 4 }}
  ports:
    - {name: metrics, containerPort: {{ .port }}}
  readinessProbe:
    httpGet: {path: {{ .alive }}, port: metrics}
    periodSeconds: 10
    timeoutSeconds: 5
  livenessProbe:
    httpGet: {path: {{ .alive }}, port: metrics}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  resources: {{- toYaml .exporter.resources | nindent 4 }}
  {{- include "auth-service.containerSecurity" .root | nindent 2 }}
  {{- with .mounts }}
  volumeMounts: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Wait in a preStop hook. Kubernetes has a sleep of its own from 1.30 on. Takes root, seconds. */}}
{{- define "auth-service.preStop" -}}
{{- if gt (int .seconds) 0 }}
lifecycle:
  preStop:
    {{- if semverCompare ">=1.30.0-0" .root.Capabilities.KubeVersion.Version }}
    sleep: {seconds: {{ .seconds }}}
    {{- else }}
    exec: {command: [sleep, {{ .seconds | quote }}]}
    {{- end }}
{{- end }}
{{- end -}}

{{/* Variables that every process of the service has: Redis, where to listen, and the settings. */}}
{{- define "auth-service.env" -}}
{{- $redis := .Values.redis -}}
- {name: AUTH_HOST, value: 0.0.0.0}
- {name: AUTH_PORT, value: "8080"}
- {name: AUTH_MANAGEMENT_HOST, value: 0.0.0.0}
- {name: AUTH_MANAGEMENT_PORT, value: "9090"}
- {name: AUTH_ISSUER, value: {{ include "auth-service.issuer" . | quote }}}
- name: AUTH_TOKEN_KEY_FILE
  value: /run/authsvc/secrets/{{ .Values.secrets.tokenKeys.issuingEntry }}
{{- with .Values.secrets.tokenKeys.acceptedEntry }}
- name: AUTH_TOKEN_KEY_ACCEPTED_FILE
  value: /run/authsvc/secrets/{{ . }}
{{- end }}
{{- if $redis.external.url }}
- name: AUTH_REDIS_URL
  value: {{ $redis.external.url | quote }}
{{- if $redis.external.cluster }}
- {name: AUTH_REDIS_MODE, value: cluster}
{{- end }}
{{- if $redis.external.existingSecret }}
- name: AUTH_REDIS_PASSWORD_FILE
  value: /run/authsvc/redis/{{ $redis.external.entry }}
{{- end }}
{{- if $redis.external.caSecret }}
- {name: AUTH_REDIS_CA_FILE, value: /run/authsvc/redis-ca/ca.crt}
{{- end }}
{{- else }}
- name: AUTH_REDIS_URL
  value: redis://authsvc@{{ include "auth-service.fullname" . }}-redis:6379/0
- name: AUTH_REDIS_PASSWORD_FILE
  value: /run/authsvc/secrets/{{ .Values.secrets.redisPasswordEntry }}
{{- end }}
{{- if not (hasKey (.Values.settings | default dict) "AUTH_BACKLOG_LIMIT") }}
- name: AUTH_BACKLOG_LIMIT
  value: {{ include "auth-service.backlogLimit" . | quote }}
{{- end }}
{{ include "auth-service.settings" . }}
{{- end -}}

{{/* The user's own. */}}
{{- define "auth-service.settings" -}}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ include "auth-service.plain" $value | quote }}
{{- end }}
{{- end -}}

{{/* And where the record store is, for those who open it. */}}
{{- define "auth-service.recordsEnv" -}}
{{- $oracle := .Values.oracle -}}
{{- if $oracle.url }}
- name: AUTH_RECORDS_URL
  value: {{ $oracle.url | quote }}
- name: AUTH_RECORDS_PASSWORD_FILE
  value: /run/authsvc/oracle/{{ $oracle.entry }}
- name: AUTH_ORACLE_POOL_MAX
  value: {{ $oracle.poolMax | quote }}
- name: AUTH_ORACLE_SESSION_LIMIT
  value: {{ $oracle.sessionLimit | quote }}
- name: AUTH_ORACLE_SESSION_RESERVE
  value: {{ $oracle.sessionReserve | quote }}
- name: AUTH_ORACLE_WRITERS
  value: {{ add .Values.writer.replicas 1 | quote }} # one that is still ending while its successor begins
{{- if $oracle.walletSecret }}
- {name: AUTH_ORACLE_CONFIG_DIR, value: /run/authsvc/wallet}
{{- end }}
{{- with $oracle.walletPasswordEntry }}
- name: AUTH_ORACLE_WALLET_PASSWORD_FILE
  value: /run/authsvc/oracle/{{ . }}
{{- end }}
{{- else }}
- {name: AUTH_RECORDS_URL, value: "sqlite:////data/records.db"}
{{- end }}
{{- end -}}

{{- define "auth-service.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: secrets, mountPath: /run/authsvc/secrets, readOnly: true}
{{- if and .Values.redis.external.url .Values.redis.external.existingSecret }}
- {name: redis, mountPath: /run/authsvc/redis, readOnly: true}
{{- end }}
{{- if and .Values.redis.external.url .Values.redis.external.caSecret }}
- {name: redis-ca, mountPath: /run/authsvc/redis-ca, readOnly: true}
{{- end }}
{{- end -}}

{{- define "auth-service.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
- name: secrets
  secret:
    secretName: {{ include "auth-service.secretName" . }}
    defaultMode: 0440
    items:
      - {key: {{ .Values.secrets.tokenKeys.issuingEntry }}, path: {{ .Values.secrets.tokenKeys.issuingEntry }}}
      {{- with .Values.secrets.tokenKeys.acceptedEntry }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
      {{- if not .Values.redis.external.url }}
      - {key: {{ .Values.secrets.redisPasswordEntry }}, path: {{ .Values.secrets.redisPasswordEntry }}}
      {{- end }}
{{- if .Values.redis.external.url }}
{{- with .Values.redis.external.existingSecret }}
- name: redis
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with .Values.redis.external.caSecret }}
- name: redis-ca
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- end -}}

{{- define "auth-service.recordsMounts" -}}
{{- if .Values.oracle.url }}
- {name: oracle, mountPath: /run/authsvc/oracle, readOnly: true}
{{- if .Values.oracle.walletSecret }}
- {name: wallet, mountPath: /run/authsvc/wallet, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{- define "auth-service.recordsVolumes" -}}
{{- if .Values.oracle.url }}
- name: oracle
  secret: {secretName: {{ .Values.oracle.existingSecret }}, defaultMode: 0440}
{{- with .Values.oracle.walletSecret }}
- name: wallet
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- end -}}
