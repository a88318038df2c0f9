{{/* The files beside nginx/nginx.conf and nginx/auth.conf that this release has of its own. */}}
{{- define "auth-service.nginxFiles" -}}
{{- $nginx := .Values.nginx -}}
{{- $full := include "auth-service.fullname" . -}}
{{- $rate := $nginx.rateLimit -}}
main.conf: |
  worker_processes {{ include "auth-service.cores" $nginx.resources.limits.cpu }};
upstream.conf: |
  {{- if eq $nginx.discovery "headless" }}
  {{- /* With several balancers least_conn alone would send all of them to the same new pod. */}}
  {{ ternary "random two least_conn" "least_conn" (gt (int $nginx.replicas) 1) }};
  server {{ $full }}-auth-headless.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}:8080 resolve max_fails=3 fail_timeout=2s;
  {{- else }}
  server {{ $full }}-auth.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}:8080 max_fails=0;
  {{- end }}
http.conf: |
  include /run/nginx/resolver.conf;
  {{- if gt (int $rate.requestsPerSecond) 0 }}
  {{- /* Each nginx counts for itself. */}}
  limit_req_zone $binary_remote_addr zone=clients:10m rate={{ max 1 (div $rate.requestsPerSecond $nginx.replicas) }}r/s;
  {{- end }}
  server {
      listen 9090;
      server_name management;
      location = /live {
          return 200 '{"status":"ok"}';
      }
      {{- if $nginx.stubStatus }}
      location = /status {
          stub_status;
      }
      {{- end }}
      location / {
          return 404;
      }
  }
listen.conf: |
  listen 8080 reuseport backlog=4096;
  {{- if $nginx.tls.secretName }}
  listen 8443 ssl reuseport backlog=4096;
  ssl_certificate /run/nginx-tls/tls.crt;
  ssl_certificate_key /run/nginx-tls/tls.key;
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache shared:tls:10m;
  ssl_session_timeout 10m;
  {{- end }}
  {{- range $nginx.trustedProxies }}
  set_real_ip_from {{ . }};
  {{- end }}
  {{- if $nginx.trustedProxies }}
  real_ip_header X-Forwarded-For;
  real_ip_recursive on;
  {{- end }}
  {{- if eq $nginx.accessLog "errors" }}
  access_log /dev/stdout json if=$trouble;
  {{- else if eq $nginx.accessLog "all" }}
  access_log /dev/stdout json;
  {{- end }}
  {{- if gt (int $rate.requestsPerSecond) 0 }}
  limit_req zone=clients burst={{ $rate.burst }} nodelay;
  limit_req_dry_run {{ ternary "on" "off" $rate.dryRun }};
  {{- end }}
  {{- with .Values.basePath }}
  {{- /* nginx runs this again for its own redirects: to /refusal, and below /validate. */}}
  if ($uri !~ "^({{ . | replace "." "\\." }}/|/refusal$|/validate/)") {
      return 404;
  }
  rewrite ^{{ . | replace "." "\\." }}(/.*)$ $1;
  {{- end }}
  {{- with $nginx.serverSnippet }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}
