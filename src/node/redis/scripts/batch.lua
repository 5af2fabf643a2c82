-- One batch of commands on one node: the only script that votes. node/state/mod.rs says the same in Rust.
--
-- KEYS  marker, high-water mark, then a lock and its fence per command (none for a scan)
-- ARGV  epoch, ready_at (ms), W (us), B (us), g (us), how long a fence is kept (ms), then per command its verb and arguments
-- Returns {now (us), one reply per command}. A reply is a number, or {number, details …}; batch.rs reads them.
--
-- Every redis.call costs as much as all the rest of a command, so there are as few as can be, and numbers stay
-- text: a ballot is 16 digits, which compare as text as they do as numbers and which Lua would print wrongly.
-- TIME is called once, because Redis 7.0 does not freeze it.
local call, try = redis.call, redis.pcall
local sub, byte, match, format = string.sub, string.byte, string.match, string.format
local KEYS, ARGV = KEYS, ARGV
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local W, keep = tonumber(ARGV[3]), ARGV[6]
local lowest, highest = format('%016.0f', now - W), format('%016.0f', now + W)

-- Why this node does not vote in this batch: epoch, clock stepped back, quarantine. Releases are carried out all the same.
local refusal
local node = call('MGET', KEYS[1], KEYS[2])
local high_water = tonumber(node[2] or '0')
if node[1] ~= ARGV[1] then
  refusal = -1
elseif now + tonumber(ARGV[4]) < high_water then
  refusal = -2
else
  local left = tonumber(ARGV[2]) * 1000 - now
  if left > 0 then refusal = {-3, math.ceil(left / 1000)} end
  if high_water + tonumber(ARGV[5]) < now then
    -- A server that is out of memory refuses this, and must not vote, but what frees memory goes on.
    local done = try('SET', KEYS[2], format('%.0f', now))
    if done.err then refusal = {-4, done.err} end
  end
end

-- Where the keys and the arguments of the next command begin. Each moves them past its own before anything else.
local k, a = 3, 7

-- What a server that can't (out of memory, a foreign type) says, as this command's reply. It touches no other.
local function failed(said)
  return {-4, said}
end

-- A record is `ballot(16) attempt(16)-or-dash lease owner`; a lease comes with the blank behind it.
-- Another program's record has something else there.
local function is_of(record, lease)
  local from = byte(record, 18) == 45 and 20 or 35
  return sub(record, from, from + #lease - 1) == lease
end

-- The same record, firm: no cancel can free it.
local function firm(record)
  return sub(record, 1, 17) .. '-' .. sub(record, 34)
end

local function set_fence(fence, ballot)
  return try('SET', fence, ballot, 'PX', keep)
end

-- A tombstone: refuses an acquire that its own cancel or release overtook. Capped, so that nobody can poison a fence.
-- Not under a foreign epoch, where the window may be another: nothing that its gateway sent can be accepted anyway.
-- Returns what went wrong, if something did.
local function raise_fence(fence, up_to)
  if refusal == -1 then return end
  if up_to > highest then up_to = highest end
  if up_to > lowest and up_to > (call('MGET', fence)[1] or lowest) then return set_fence(fence, up_to).err end
end

-- The lock is there already. record is the caller's, over the highest ballot of another attempt that it may raise.
local function acquire_held(lock, fence, record, ttl, over)
  local found = call('MGET', lock, fence)
  local held, floor = found[1], found[2]
  if not held then return 5 end -- not a string: not ours
  local left = call('PTTL', lock)
  if not is_of(held, match(record, '^%d+ %x+ (%S+ )')) then return {0, left, held} end
  local ballot, old = sub(record, 1, 16), sub(held, 1, 16)
  local own = sub(held, 18, 33) == sub(record, 18, 33)
  if own and old == ballot then return 1 end
  -- An earlier round that arrives after a later one changes nothing; firm, the record could not be cancelled.
  if own and ballot < old then return {3, old} end
  if not own and over < old then
    if byte(held, 18) ~= 45 then
      local done = try('SET', lock, firm(held), 'KEEPTTL')
      if done.err then return failed(done.err) end
    end
    return {2, left, held}
  end
  if not floor or floor < lowest then floor = lowest end
  if ballot <= floor then return {3, floor} end
  local done = set_fence(fence, ballot)
  if done.err then return failed(done.err) end
  if left > tonumber(ttl) then ttl = left end
  done = try('SET', lock, own and record or firm(record), 'PX', ttl)
  if done.err then return failed(done.err) end
  return 1
end

-- 1 accepted, {2, left, record} mine, {0, left, record} busy, {3, floor} stale, 4 ahead, 5 foreign key
local function acquire_over(over)
  local lock, fence, record, ttl = KEYS[k], KEYS[k + 1], ARGV[a + 1], ARGV[a + 2]
  k, a = k + 2, a + 3
  if refusal then return refusal end
  local ballot = sub(record, 1, 16)
  if ballot > highest then return 4 end
  -- Written first and looked at after: in the usual case two calls are enough.
  local done = try('SET', lock, record, 'PX', ttl, 'NX')
  if not done then return acquire_held(lock, fence, record, ttl, over) end
  if done.err then return failed(done.err) end
  local seen = try('SET', fence, ballot, 'PX', keep, 'GET')
  if seen and seen.err then
    call('DEL', lock)
    return failed(seen.err)
  end
  local floor = seen
  if not floor or floor < lowest then floor = lowest end
  if ballot > floor then return 1 end
  call('DEL', lock)
  -- A server out of memory refuses a script's first write, never a later one, so the fence comes back for sure.
  if seen then call('SET', fence, seen, 'PX', keep) else call('DEL', fence) end
  return {3, floor}
end

-- record, ttl
local function acquire()
  return acquire_over('')
end

-- over, record, ttl: rounds after the first
local function raise()
  a = a + 1
  return acquire_over(ARGV[a])
end

-- lease, ttl: {1, left, record} extended and firm, 0 gone, 2 held by another
local function extend()
  local lock, lease, ttl = KEYS[k], ARGV[a + 1], ARGV[a + 2]
  k, a = k + 2, a + 3
  if refusal then return refusal end
  local held = try('GET', lock)
  if not held then return 0 end
  if held.err then return failed(held.err) end
  if not is_of(held, lease) then return 2 end
  local left = call('PTTL', lock)
  ttl = tonumber(ttl)
  if left > ttl then ttl = left end
  if byte(held, 18) ~= 45 then
    local done = try('SET', lock, firm(held), 'PX', ttl)
    if done.err then return failed(done.err) end
  elseif left < ttl then
    call('PEXPIRE', lock, ttl)
  end
  return {1, ttl, held}
end

-- lease, up_to: 1 freed, 0 not held, 2 held by another, {3, record} held under a newer ballot
local function release()
  local lock, fence, lease, up_to = KEYS[k], KEYS[k + 1], ARGV[a + 1], ARGV[a + 2]
  k, a = k + 2, a + 3
  local held, vote = try('GET', lock), 0
  if held and not held.err then
    local ballot = sub(held, 1, 16)
    if not is_of(held, lease) then
      vote = 2
    elseif ballot > up_to then
      vote = {3, held}
    else
      call('DEL', lock)
      -- The fence was raised to this ballot with the lock, and outlives what the window refuses.
      if ballot == up_to then return 1 end
      vote = 1
    end
  end
  local said = raise_fence(fence, up_to)
  if said then return failed(said) end
  return vote
end

-- lease, attempt, up_to: 1 freed, 0 nothing to free
local function cancel()
  local lock, fence, lease, attempt, up_to = KEYS[k], KEYS[k + 1], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
  k, a = k + 2, a + 4
  local held, freed = try('GET', lock), 0
  if held and not held.err and is_of(held, lease) and sub(held, 18, 33) == attempt then
    call('DEL', lock)
    freed = 1
  end
  local said = raise_fence(fence, up_to)
  if said then return failed(said) end
  return freed
end

-- 0 free, {1, left, record} held
local function inspect()
  local lock = KEYS[k]
  k, a = k + 2, a + 1
  if refusal then return refusal end
  local held = try('GET', lock)
  if not held then return 0 end
  if held.err then return failed(held.err) end
  return {1, call('PTTL', lock), held}
end

-- cursor, pattern, count: {cursor, names}
local function scan()
  local p = a
  a = a + 4
  if refusal then return refusal end
  local page = try('SCAN', ARGV[p + 1], 'MATCH', ARGV[p + 2], 'COUNT', ARGV[p + 3], 'TYPE', 'string')
  if page.err then return failed(page.err) end
  return page
end

local verbs = {A = acquire, O = raise, R = release, E = extend, C = cancel, I = inspect, S = scan}
local replies, n, verb = {now}, 1, ARGV[a]
while verb do
  n = n + 1
  replies[n] = verbs[verb]()
  verb = ARGV[a]
end
return replies
