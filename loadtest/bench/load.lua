-- One request shape for wrk: method, path and headers from the command line, bodies from a file, in turn.
local bodies, position = {}, 0
function init(args)
  local path, authorization, file = args[1], args[2], args[3]
  wrk.method = "POST"
  wrk.path = path
  wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
  if authorization ~= "-" then wrk.headers["Authorization"] = authorization end
  for line in io.lines(file) do table.insert(bodies, wrk.format(nil, nil, nil, line)) end
end
function request()
  position = position % #bodies + 1
  return bodies[position]
end
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    errors.status, errors.read + errors.write + errors.timeout + errors.connect, latency:percentile(99)))
end
