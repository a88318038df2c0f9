{{/* The file that nginx starts with. */}}
{{- define "auth-service.nginxFile" -}}
/etc/nginx/auth/{{ ternary "stream" "nginx" (eq .Values.nginx.mode "stream") }}.conf
{{- end -}}

{{/* The files of nginx/ that this release uses. */}}
{{- define "auth-service.nginxShared" -}}
process.conf: {{- .Files.Get "files/process.conf" | toYaml | indent 1 }}
{{- if eq .Values.nginx.mode "stream" }}
stream.conf: {{- .Files.Get "files/stream.conf" | toYaml | indent 1 }}
{{- else }}
nginx.conf: {{- include "auth-service.nginxConf" . | toYaml | indent 1 }}
auth.conf: {{- .Files.Get "files/auth.conf" | toYaml | indent 1 }}
{{- end }}
{{- end -}}

{{/* Probes and counters; what the exporter reads is for this pod alone. */}}
{{- define "auth-service.nginxManagement" -}}
server {
    listen 9090;
    server_name management;
    location = /live {
        return 200 '{"status":"ok"}';
    }
    {{- if .Values.nginx.stubStatus }}
    location = /status {
        stub_status;
    }
    {{- end }}
    location / {
        return 404;
    }
}
{{- if .Values.nginx.exporter.enabled }}
server {
    listen 127.0.0.1:9091;
    server_name exporter;
    location = /status {
        stub_status;
    }
    location / {
        return 404;
    }
}
{{- end }}
{{- end -}}

{{/* The files beside them that this release has of its own. */}}
{{- define "auth-service.nginxFiles" -}}
{{- $nginx := .Values.nginx -}}
{{- $full := include "auth-service.fullname" . -}}
{{- $rate := $nginx.rateLimit -}}
{{- $stream := eq $nginx.mode "stream" -}}
{{- $most := include "auth-service.mostBalancers" . | int -}}
main.conf: |
  worker_processes {{ include "auth-service.cores" $nginx.resources.limits.cpu }};
  {{- if $stream }}
  http {
      access_log off;
      {{- range list "client_body" "proxy" "fastcgi" "uwsgi" "scgi" }}
      {{ . }}_temp_path {{ . }}_temp;
      {{- end }}
      {{- include "auth-service.nginxManagement" . | nindent 6 }}
  }
  {{- end }}
upstream.conf: |
  {{- if eq $nginx.discovery "headless" }}
  {{- /* With several balancers least_conn alone would send all of them to the same new pod. */}}
  {{ ternary "random two least_conn" "least_conn" (gt $most 1) }};
  server {{ $full }}-auth-headless.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}:8080 resolve max_fails=3 fail_timeout=2s;
  {{- else }}
  server {{ $full }}-auth.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}:8080 max_fails=0;
  {{- end }}
{{ ternary "tcp" "http" $stream }}.conf: |
  include /run/nginx/resolver.conf;
  {{- if and $nginx.tls.secretName (eq $nginx.discovery "headless") }}
  # Named by a variable, a certificate is read again when it was renewed.
  map $ssl_server_name $tls_folder {
      default /run/nginx-tls;
  }
  {{- end }}
  {{- if gt (int $rate.requestsPerSecond) 0 }}
  {{- /* Each nginx counts for itself, and knows whole numbers only: of a minute they are fine enough. Of the most pods, so that the sum is never more. */}}
  limit_req_zone $binary_remote_addr zone=clients:10m rate={{ max 1 (div (mul $rate.requestsPerSecond 60) $most) }}r/m;
  {{- end }}
  {{- if not $stream }}
  {{- include "auth-service.nginxManagement" . | nindent 2 }}
  {{- end }}
listen.conf: |
  listen 8080 reuseport backlog=4096;
  {{- if $stream }}
  # Longer than an instance keeps an idle connection, which it is to end.
  proxy_timeout {{ add .Values.auth.keepAliveSeconds 5 }}s;
  proxy_protocol {{ ternary "on" "off" $nginx.proxyProtocol }};
  {{- end }}
  {{- if $nginx.tls.secretName }}
  listen 8443 ssl reuseport backlog=4096;
  {{- if eq $nginx.discovery "headless" }}
  ssl_certificate $tls_folder/tls.crt;
  ssl_certificate_key $tls_folder/tls.key;
  ssl_certificate_cache max=2 valid=10s;
  {{- else }}
  ssl_certificate /run/nginx-tls/tls.crt;
  ssl_certificate_key /run/nginx-tls/tls.key;
  {{- end }}
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
  limit_req zone=clients burst={{ div (add $rate.burst $most -1) $most }} nodelay;
  limit_req_dry_run {{ ternary "on" "off" $rate.dryRun }};
  {{- end }}
  {{- with .Values.basePath }}
  {{- /* nginx runs this again for its own redirects: to /refusal, and below /validate. */}}
  {{- $prefix := . | replace "." "\\." }}
  if ($uri !~ "^({{ $prefix }}/|/\.well-known/oauth-authorization-server{{ $prefix }}$|/refusal$|/validate/)") {
      return 404;
  }
  # RFC 8414, 3.1: the issuer's path comes after the well-known one.
  rewrite ^(/\.well-known/oauth-authorization-server){{ $prefix }}$ $1;
  rewrite ^{{ $prefix }}(/.*)$ $1;
  {{- end }}
  {{- with $nginx.serverSnippet }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* nginx/nginx.conf; an nginx before 1.27.4 does without the line that it does not know. */}}
{{- define "auth-service.nginxConf" -}}
{{- $text := .Files.Get "files/nginx.conf" -}}
{{- ternary $text (regexReplaceAll "(?m)^ *keepalive_min_timeout .*\n" $text "") (eq .Values.nginx.discovery "headless") -}}
{{- end -}}
