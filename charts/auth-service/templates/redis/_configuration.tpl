{{- define "auth-service.redisFiles" -}}
redis.conf: |
  # What was answered is in this file; nothing is ever evicted; full means no new tokens.
  port 6379
  dir /data
  appendonly yes
  appendfsync {{ .Values.redis.appendfsync }}
  no-appendfsync-on-rewrite no
  save ""
  maxmemory {{ include "auth-service.maxmemory" . }}
  maxmemory-policy noeviction
  maxclients {{ .Values.redis.maxClients }}
  tcp-backlog 511
  tcp-keepalive 60
  timeout 0
  aclfile /run/redis/users.acl
  # A child that dies of memory must not stop the service while the file itself is whole.
  stop-writes-on-bgsave-error no
{{- end -}}
