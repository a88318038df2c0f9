"""Atomic steps in Redis: each Lua script judges and acts in one step, on keys of one tag only.

All carry `allow-oom` (Redis 7, Valkey): they end tokens, and a full store must not keep anything alive. A script that
meets a form it does not know changes nothing and says `form`.
"""

from __future__ import annotations

import hashlib

import hiredis

_HEAD = "#!lua flags=allow-oom\n"
_NOW_MS = "local t = redis.call('TIME') local now_ms = t[1] .. string.format('%03d', math.floor(t[2] / 1000))\n"


def pack(*words: bytes | str | int) -> bytes:
    """A command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]
    return packed


class Script:
    """A Lua script; called by its digest, by its text when the server lost it."""

    def __init__(self, text: str) -> None:
        self.text = (_HEAD + text).encode("ascii")
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode("ascii")

    def command(self, keys: tuple[bytes, ...], *args: bytes | int) -> bytes:
        """The packed EVALSHA."""
        return pack(b"EVALSHA", self.digest, len(keys), *keys, *args)

    def fallback(self, keys: tuple[bytes, ...], *args: bytes | int) -> bytes:
        """The packed EVAL, which also loads the script again."""
        return pack(b"EVAL", self.text, len(keys), *keys, *args)


END = Script(
    """
-- Consume or revoke a token. KEYS token, stream, version. ARGV judged version, event letter, owner or '', request id, by whom or ''.
local function read(version)
  local incarnation, change = string.match(version, '^(.-):(%d+)$')
  return incarnation, tonumber(change)
end
local held = redis.call('GET', KEYS[3])
if not held then return 'stale' end
local held_incarnation, held_change = read(held)
local incarnation, change = read(ARGV[1])
if incarnation ~= held_incarnation or change < held_change then return 'stale' end
local stored = redis.call('GET', KEYS[1])
if not stored then return 'unknown' end
local reason, owner = string.match(stored, '^1([ur]) %d+ (%S+)$')
if not reason then
  owner = string.match(stored, '^1[ao] %d+ (%S+) ')
  if not owner then return 'form' end
end
if ARGV[3] ~= '' and ARGV[3] ~= owner then return 'foreign' end
if reason == 'u' then return 'used' end
if reason == 'r' then return 'revoked' end
"""
    + _NOW_MS
    + """
local event = '1' .. ARGV[2] .. string.sub(KEYS[1], -20) .. now_ms .. ' ' .. stored
if ARGV[5] == '' then
  redis.call('XADD', KEYS[2], '*', 'e', event, 'r', ARGV[4])
else
  redis.call('XADD', KEYS[2], '*', 'e', event, 'r', ARGV[4], 'b', ARGV[5])
end
redis.call('SET', KEYS[1], '1' .. ARGV[2] .. ' ' .. now_ms .. ' ' .. owner, 'KEEPTTL')
return 'done'
"""
)

VOID = Script(
    """
-- Take back a token that was stored but not answered. KEYS token, stream. ARGV token value.
"""
    + _NOW_MS
    + """
redis.call('XADD', KEYS[2], '*', 'e', '1v' .. string.sub(KEYS[1], -20) .. now_ms .. ' ' .. ARGV[1])
redis.call('DEL', KEYS[1])
return 'done'
"""
)

MIRROR = Script(
    """
-- Put one client into the mirror. KEYS clients, log, version. ARGV id, record, log entry, log length.
-- Answers {'done', version} or {'refused', version, held record}; {'incomplete'} while there is no complete mirror.
local version = redis.call('GET', KEYS[3])
if not version then return {'incomplete'} end
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held then
  local held_revision = string.match(held, '^1 (%d+) ')
  if not held_revision then return {'form'} end
  local revision = string.match(ARGV[2], '^1 (%d+) ')
  if tonumber(revision) <= tonumber(held_revision) then return {'refused', version, held} end
end
local incarnation, change = string.match(version, '^(.-):(%d+)$')
change = string.format('%.0f', tonumber(change) + 1)
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], change .. '-0', 'e', ARGV[3])
version = incarnation .. ':' .. change
redis.call('SET', KEYS[3], version)
return {'done', version}
"""
)

RAISE = Script(
    """
-- Raise one tag's version to that of home. KEYS version. ARGV version. Never lowers it within an incarnation, never
-- writes over another incarnation and never makes one where there is none.
local held = redis.call('GET', KEYS[1])
if not held then return 'missing' end
local held_incarnation, held_change = string.match(held, '^(.-):(%d+)$')
local incarnation, change = string.match(ARGV[1], '^(.-):(%d+)$')
if incarnation ~= held_incarnation then return 'other' end
if tonumber(change) > tonumber(held_change) then redis.call('SET', KEYS[1], ARGV[1]) end
return 'done'
"""
)

BUILD_BEGIN = Script(
    """
-- Begin a mirror from nothing. KEYS build, clients, log, version, store. ARGV mark, incarnation number.
-- From here until the close there is no version, so everyone answers 503.
redis.call('DEL', KEYS[4], KEYS[2], KEYS[3])
redis.call('SET', KEYS[1], ARGV[1])
local store = redis.call('GET', KEYS[5])
local number = store and string.match(store, '^1 (%d+) ')
local highest = math.max(tonumber(number or '0'), tonumber(ARGV[2]))
redis.call('SET', KEYS[5], '1 ' .. string.format('%.0f', highest) .. ' -')
return 'done'
"""
)

BUILD_ADD = Script(
    """
-- Add records to the mirror being built. KEYS build, clients. ARGV mark, then id, record, id, record, ...
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lost' end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return 'done'
"""
)

BUILD_TAG = Script(
    """
-- Give another tag the version of the mirror that is about to be closed. KEYS version. ARGV version.
-- A newer incarnation stays: then this build stood still and was overtaken.
local held = redis.call('GET', KEYS[1])
local held_number = held and string.match(held, '^(%d+)%-') or '0'
if tonumber(held_number) > tonumber(string.match(ARGV[1], '^(%d+)%-')) then return 'lost' end
redis.call('SET', KEYS[1], ARGV[1])
return 'done'
"""
)

BUILD_CLOSE = Script(
    """
-- Close a mirror: only the build that began it, and only with every record there.
-- The server that holds it is vouched for from then on.
-- KEYS build, clients, version, store, vouched. ARGV mark, number of records, version, incarnation number, store identity, run_id.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lost' end
if redis.call('HLEN', KEYS[2]) ~= tonumber(ARGV[2]) then return 'lost' end
redis.call('SET', KEYS[4], '1 ' .. ARGV[4] .. ' ' .. ARGV[5])
redis.call('SET', KEYS[5], ARGV[6])
redis.call('SET', KEYS[3], ARGV[3])
redis.call('DEL', KEYS[1])
return 'done'
"""
)

SET_ASIDE = Script(
    """
-- Move an entry that can never be written out of its stream. KEYS stream, poison. ARGV group, entry id, reason.
local entry = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1]
if entry then
  local fields = entry[2]
  table.insert(fields, 'entry') table.insert(fields, ARGV[2])
  table.insert(fields, 'reason') table.insert(fields, ARGV[3])
  redis.call('XADD', KEYS[2], '*', unpack(fields))
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return 'done'
"""
)

DROP_CONSUMER = Script(
    """
-- Remove a consumer that is gone, only with nothing pending: what it had read would never be found again.
-- KEYS stream. ARGV group, consumer.
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 'pending' end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 'done'
"""
)

BEAT_ON = Script(
    """
-- Move the beat on: a number, and the time at which it was reached, which never runs back. KEYS beat. ARGV number noted before.
-- Behind that number this is older data, whose beat must not catch up with what was noted of the newer.
local held = redis.call('GET', KEYS[1]) or '0-0'
local ms, number = string.match(held, '^(%d+)%-(%d+)$')
if not number then ms, number = '0', '0' end
if tonumber(number) < tonumber(ARGV[1]) then return held end
"""
    + _NOW_MS
    + """
if tonumber(now_ms) > tonumber(ms) then ms = now_ms end
held = ms .. '-' .. string.format('%.0f', tonumber(number) + 1)
redis.call('SET', KEYS[1], held)
return held
"""
)

VOUCH = Script(
    """
-- Vouch for a server process. A script, because a plain SET is refused when memory is full. KEYS vouched. ARGV run_id.
redis.call('SET', KEYS[1], ARGV[1])
return 'done'
"""
)

NOTE_RECORDED = Script(
    """
-- Note how far the record store had come, by the later of two looks. KEYS recorded. ARGV incarnation number, sum, both as noted.
local held = redis.call('GET', KEYS[1])
local number, sum = string.match(held or '', '^1 (%d+) (%d+)$')
if number and tonumber(number) > tonumber(ARGV[1]) then return 'later' end
if number and tonumber(number) == tonumber(ARGV[1]) and tonumber(sum) >= tonumber(ARGV[2]) then return 'later' end
redis.call('SET', KEYS[1], ARGV[3])
return 'done'
"""
)

HOT = (END, VOID)
"""The scripts that requests call; loaded on every new connection."""
