{{/* The writer's pod: the same for Deployment and StatefulSet. Takes root, part. */}}
{{- define "auth-service.writerPod" -}}
{{- $root := .root -}}
{{- with .root -}}
{{- $writer := .Values.writer -}}
{{- include "auth-service.pod" $.part }}
# The batch at hand is written first.
terminationGracePeriodSeconds: 60
{{- if not .Values.oracle.url }}
initContainers:
  # Brings the embedded store's schema up to date.
  - name: migrate
    image: {{ include "auth-service.serviceImage" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args: [migrate]
    env:
      {{- include "auth-service.env" . | nindent 6 }}
      {{- include "auth-service.recordsEnv" . | nindent 6 }}
    resources: {{- toYaml .Values.jobResources | nindent 6 }}
    {{- include "auth-service.containerSecurity" . | nindent 4 }}
    volumeMounts:
      {{- include "auth-service.mounts" . | nindent 6 }}
      - {name: data, mountPath: /data}
{{- end }}
containers:
  - name: writer
    image: {{ include "auth-service.serviceImage" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args: [write]
    env:
      {{- include "auth-service.env" . | nindent 6 }}
      {{- include "auth-service.recordsEnv" . | nindent 6 }}
      - {name: AUTH_WRITER_PROFILE, value: {{ $writer.profile }}}
      {{- if or .Values.clients.seed .Values.clients.existingConfigMap }}
      - {name: AUTH_CLIENTS_FILE, value: /run/authsvc/clients/clients.json}
      {{- end }}
      {{- with $writer.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    ports:
      - {name: management, containerPort: 9090}
    startupProbe:
      httpGet: {path: /live, port: management}
      periodSeconds: 2
      failureThreshold: 60
    # Red while the record store or Redis is away: nothing is lost meanwhile.
    readinessProbe:
      httpGet: {path: /ready, port: management}
      periodSeconds: 5
      timeoutSeconds: 2
    livenessProbe:
      httpGet: {path: /live, port: management}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    resources: {{- toYaml $writer.resources | nindent 6 }}
    {{- include "auth-service.containerSecurity" . | nindent 4 }}
    volumeMounts:
      {{- include "auth-service.mounts" . | nindent 6 }}
      {{- include "auth-service.recordsMounts" . | nindent 6 }}
      {{- if not .Values.oracle.url }}
      - {name: data, mountPath: /data}
      {{- end }}
      {{- if or .Values.clients.seed .Values.clients.existingConfigMap }}
      - {name: clients, mountPath: /run/authsvc/clients, readOnly: true}
      {{- end }}
      {{- with $writer.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  {{- include "auth-service.volumes" . | nindent 2 }}
  {{- include "auth-service.recordsVolumes" . | nindent 2 }}
  {{- if or .Values.clients.seed .Values.clients.existingConfigMap }}
  - name: clients
    configMap: {name: {{ .Values.clients.existingConfigMap | default (printf "%s-clients" (include "auth-service.fullname" .)) }}}
  {{- end }}
  {{- with $writer.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
{{- end -}}
