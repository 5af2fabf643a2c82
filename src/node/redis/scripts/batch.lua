-- One batch of commands on one node: the only script that votes. node/state.rs says the same in Rust.
--
-- KEYS  marker, high-water mark, then a lock and its fence per command (none for a scan)
-- ARGV  epoch, ready_at (ms), W (us), B (us), g (us), fence keep W+B+g (us), then per command its verb and arguments
-- Returns {now (us), one reply per command}. A reply is a number, or {number, details …}; see script.rs.
--
-- Numbers: a ballot travels as text, because Lua prints it with 14 digits. TIME is called once, because Redis 7.0
-- does not freeze it. Times to live are relative and small, so that any printing of them is exact.
local call, match, ceil, format = redis.call, string.match, math.ceil, string.format
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local W, B, g, keep = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

-- Why this node does not vote in this batch: epoch, clock stepped back, quarantine. Releases are carried out all the same.
local refusal
local node = call('MGET', KEYS[1], KEYS[2])
local high_water = tonumber(node[2] or '0')
if node[1] ~= ARGV[1] then
  refusal = -1
elseif now + B < high_water then
  refusal = -2
else
  if high_water + g < now then call('SET', KEYS[2], format('%.0f', now)) end
  local left = tonumber(ARGV[2]) * 1000 - now
  if left > 0 then refusal = {-3, ceil(left / 1000)} end
end

-- Where the next command's keys and arguments begin. Moved before a command runs, so that its failure harms no other.
local k, a = 3, 7

local function set_fence(fence, ballot, t)
  call('SET', fence, ballot, 'PX', ceil((t + keep) / 1000) - now_ms)
end

-- A tombstone: refuses an acquire that its own cancel or release overtook. Capped, so that nobody can poison a fence.
local function raise_fence(fence, old, ballot)
  local t = tonumber(ballot)
  if t > now + W then
    t = now + W
    ballot = format('%.0f', t)
  end
  if t > now - W and t > tonumber(old or '0') then set_fence(fence, ballot, t) end
end

-- 1 accepted, {2, left, record} mine, {0, left, record} busy, {3, floor} stale, 4 ahead, 5 a foreign key
local function acquire(lock, fence, p)
  local ballot, lease, attempt, ttl = ARGV[p], ARGV[p + 1], ARGV[p + 2], ARGV[p + 3]
  local t = tonumber(ballot)
  if t > now + W then return 4 end
  local found = call('MGET', lock, fence)
  local held, seen, floor = found[1], found[2], now - W
  if seen then
    seen = tonumber(seen)
    if seen > floor then floor = seen end
  end
  if not held then
    if t <= floor then return {3, floor} end
    set_fence(fence, ballot, t)
    -- MGET shows nothing where a list or a hash is; NX keeps it.
    if not call('SET', lock, ballot .. ' ' .. attempt .. ' ' .. lease .. ' ' .. ARGV[p + 5], 'PX', ttl, 'NX') then return 5 end
    return 1
  end
  local old, by, who, owner = match(held, '^(%d+) (%S+) (%S+) (.*)$')
  local left = call('PTTL', lock)
  if who ~= lease then return {0, left, held} end
  local old_t, own = tonumber(old), by == attempt
  if own and old_t == t then return 1 end
  local raises
  if own then raises = old_t < t else raises = old_t <= tonumber(ARGV[p + 4]) end
  if not raises then
    if by ~= '-' then call('SET', lock, old .. ' - ' .. lease .. ' ' .. owner, 'KEEPTTL') end
    return {2, left, held}
  end
  if t <= floor then return {3, floor} end
  set_fence(fence, ballot, t)
  if left > tonumber(ttl) then ttl = left end
  call('SET', lock, ballot .. (own and ' ' .. attempt .. ' ' or ' - ') .. lease .. ' ' .. ARGV[p + 5], 'PX', ttl)
  return 1
end

-- {1, left, record} extended and firm, 0 gone, 2 held by another
local function extend(lock, _, p)
  local held = call('GET', lock)
  if not held then return 0 end
  local old, by, who, owner = match(held, '^(%d+) (%S+) (%S+) (.*)$')
  if who ~= ARGV[p] then return 2 end
  local ttl, left = tonumber(ARGV[p + 1]), call('PTTL', lock)
  if left > ttl then ttl = left end
  if by ~= '-' then
    call('SET', lock, old .. ' - ' .. who .. ' ' .. owner, 'PX', ttl)
  elseif left < ttl then
    call('PEXPIRE', lock, ttl)
  end
  return {1, ttl, held}
end

-- 1 freed, 0 not held, 2 held by another, {3, record} held under a newer ballot
local function release(lock, fence, p)
  local found, vote = call('MGET', lock, fence), 0
  local held, up_to = found[1], ARGV[p + 1]
  if held then
    local old, who = match(held, '^(%d+) %S+ (%S+) ')
    if who ~= ARGV[p] then
      vote = 2
    elseif tonumber(old) > tonumber(up_to) then
      vote = {3, held}
    else
      call('DEL', lock)
      vote = 1
    end
  end
  raise_fence(fence, found[2], up_to)
  return vote
end

-- 1 freed, 0 nothing to free
local function cancel(lock, fence, p)
  local found, freed = call('MGET', lock, fence), 0
  if found[1] then
    local by, who = match(found[1], '^%d+ (%S+) (%S+) ')
    if who == ARGV[p] and by == ARGV[p + 1] then
      call('DEL', lock)
      freed = 1
    end
  end
  raise_fence(fence, found[2], ARGV[p + 2])
  return freed
end

-- 0 free, {1, left, record} held
local function inspect(lock)
  local held = call('GET', lock)
  if not held then return 0 end
  return {1, call('PTTL', lock), held}
end

-- {cursor, names}
local function scan(_, _, p)
  return call('SCAN', ARGV[p], 'MATCH', ARGV[p + 1], 'COUNT', ARGV[p + 2], 'TYPE', 'string')
end

-- verb -> what it does, how many keys and arguments it takes, whether it votes
local verbs = {
  A = {acquire, 2, 6, true},
  R = {release, 2, 2, false},
  E = {extend, 2, 2, true},
  C = {cancel, 2, 3, false},
  I = {inspect, 2, 0, true},
  S = {scan, 0, 3, true},
}
local replies, n = {now}, 1
while ARGV[a] do
  local verb = verbs[ARGV[a]]
  local lock, fence, p = KEYS[k], KEYS[k + 1], a + 1
  k, a, n = k + verb[2], a + 1 + verb[3], n + 1
  if refusal and verb[4] then
    replies[n] = refusal
  else
    local done, reply = pcall(verb[1], lock, fence, p)
    if not done then reply = {-4, type(reply) == 'table' and reply.err or tostring(reply)} end
    replies[n] = reply
  end
end
return replies
