-- wrk's part: requests as they are in a file, each after its length and a line break; in turn, or each once.
local requests, position, once = {}, 0, false
function init(args)
  once = args[2] == "once"
  local file = io.open(args[1], "rb")
  local text, at = file:read("*a"), 1
  file:close()
  while at <= #text do
    local ends = text:find("\n", at, true)
    local length = tonumber(text:sub(at, ends - 1))
    table.insert(requests, text:sub(ends + 1, ends + length))
    at = ends + length + 1
  end
end
function request()
  position = position + 1
  if position > #requests then
    if once then wrk.thread:stop() end
    position = 1
  end
  return requests[position]
end
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    errors.status, errors.read + errors.write + errors.timeout + errors.connect, latency:percentile(99)))
end
