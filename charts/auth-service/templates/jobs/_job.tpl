{{/* A Job that runs a command of the service once. Takes root, component, name, args, and perhaps account, hook, records. Its name ends in
     the hash of what it does, for a Job cannot be changed: a new one is made where that differs, and nothing where it does not. */}}
{{- define "auth-service.job" -}}
{{- $root := .root -}}
{{- $spec := include "auth-service.jobSpec" . -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "auth-service.fullname" $root }}-{{ .component }}-{{ sha256sum $spec | trunc 8 }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "auth-service.labels" (dict "root" $root "component" .component) | nindent 4 }}
  {{- with .hook }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- $spec | nindent 2 }}
{{- end -}}

{{- define "auth-service.jobSpec" -}}
{{- $root := .root -}}
{{- if .hook }}
backoffLimit: 10
activeDeadlineSeconds: 900
{{- else }}
# Without a deadline: an image that is missing for a while is only a pause.
backoffLimit: 1000
{{- end }}
template:
  metadata:
    labels: {{- include "auth-service.selector" (dict "root" $root "component" .component) | nindent 6 }}
  spec:
    {{- include "auth-service.pod" (merge (dict "values" $root.Values.writer) .) | nindent 4 }}
    restartPolicy: OnFailure
    containers:
      - name: {{ .component }}
        image: {{ include "auth-service.serviceImage" $root }}
        imagePullPolicy: {{ $root.Values.image.pullPolicy }}
        args: {{- toYaml .args | nindent 10 }}
        {{- if .records }}
        env:
          {{- include "auth-service.recordsEnv" $root | nindent 10 }}
          {{- include "auth-service.settings" $root | nindent 10 }}
          {{- with $root.Values.writer.extraEnv }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
        {{- end }}
        resources: {{- toYaml $root.Values.jobResources | nindent 10 }}
        {{- include "auth-service.containerSecurity" $root | nindent 8 }}
        volumeMounts:
          - {name: tmp, mountPath: /tmp}
          {{- if .records }}
          {{- include "auth-service.recordsMounts" $root | nindent 10 }}
          {{- with $root.Values.writer.extraVolumeMounts }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
          {{- end }}
    volumes:
      - name: tmp
        emptyDir: {sizeLimit: 64Mi}
      {{- if .records }}
      {{- include "auth-service.recordsVolumes" $root | nindent 6 }}
      {{- with $root.Values.writer.extraVolumes }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- end }}
{{- end -}}
