-- One batch of commands on one node: the only script that votes. node/state/mod.rs says the same in Rust.
--
-- Above it batch.rs writes the settings: W, B and G in microseconds, KEEP (how long a fence is kept) in milliseconds,
-- FENCES (what a fence's name begins with) and LOCKS (how many bytes the names of locks begin with).
--
-- KEYS  marker, high-water mark, then per command its lock, and its fence unless it is a release; none for a scan
-- ARGV  epoch, ready_at (ms), then per run of commands of one verb: the verb, how many, the arguments of each.
--       No lock is twice in a run of releases.
-- Returns {now (us), a letter per command, the details of those letters that have some}; batch.rs reads them.
--
-- What a server spends on this is, by instructions: 10 000 on a write, 5 000 on another redis.call, 1 000 to 2 000 on
-- each argument, closure, table and operation on a string, next to nothing on the rest. So what most batches need is
-- written out in the loop at the end, and what few need is made by a function that captures nothing. Ballots stay
-- text: 16 digits compare as text as they do as numbers, and Lua would print them wrongly. TIME is called once,
-- because Redis 7.0 does not freeze it.
local call, try, sub = redis.call, redis.pcall, string.sub
local KEYS, ARGV = KEYS, ARGV
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local lowest, highest = now - W, now + W

-- Why this node does not vote in this batch: e epoch, b clock stepped back, q quarantine (ms left), f it can't (what
-- it said). Releases and cancels are carried out all the same.
local refusal, reason
local node = call('MGET', KEYS[1], KEYS[2])
local high_water = (node[2] or 0) + 0
if node[1] ~= ARGV[1] then
  refusal = 'e'
elseif now + B < high_water then
  refusal = 'b'
else
  local left = ARGV[2] * 1000 - now
  if left > 0 then refusal, reason = 'q', math.ceil(left / 1000) end
  if high_water + G < now then
    -- A server that is out of memory refuses this, and must not vote, but what frees memory goes on.
    local done = try('SET', KEYS[2], string.format('%.0f', now))
    if done.err then refusal, reason = 'f', done.err end
  end
end

-- What most batches do without. A record is `ballot(16) attempt(16)-or-dash lease owner`; a lease comes with the
-- blank behind it. Another program's record has something else there.
local function make_others(call, try, lowest, highest, KEEP, may_raise)
  local sub, byte = string.sub, string.byte

  -- A ballot as it stands in a record.
  local function text_of(ballot)
    return string.format('%016.0f', ballot)
  end

  local function is_of(record, lease)
    local from = byte(record, 18) == 45 and 20 or 35
    return sub(record, from, from + #lease - 1) == lease
  end

  -- The same record, firm: no cancel can free it.
  local function firm(record)
    return sub(record, 1, 17) .. '-' .. sub(record, 34)
  end

  -- A tombstone: refuses an acquire that its own cancel or release overtook. Capped, so that nobody can poison a fence.
  -- Returns what went wrong, if something did.
  local function raise_fence(fence, up_to)
    if not may_raise then return end
    if highest < up_to + 0 then up_to = text_of(highest) end
    if lowest < up_to + 0 and up_to > (call('MGET', fence)[1] or '') then return try('SET', fence, up_to, 'PX', KEEP).err end
  end

  -- The lock is there already. record is the caller's, over the highest ballot of another attempt that it may raise.
  local function acquire_held(lock, fence, record, ttl, over)
    local found = call('MGET', lock, fence)
    local held, seen = found[1], found[2]
    if not held then return '5' end -- not a string: not ours
    local left = call('PTTL', lock)
    if not is_of(held, string.match(record, '^%d+ %x+ (%S+ )')) then return '0', {left, held} end
    local ballot, old = sub(record, 1, 16), sub(held, 1, 16)
    local own = sub(held, 18, 33) == sub(record, 18, 33)
    if own and old == ballot then return '1' end
    -- An earlier round that arrives after a later one changes nothing; firm, the record could not be cancelled.
    if own and ballot < old then return '3', old end
    if not own and over < old then
      if byte(held, 18) ~= 45 then
        local done = try('SET', lock, firm(held), 'KEEPTTL')
        if done.err then return 'f', done.err end
      end
      return '2', {left, held}
    end
    local floor = math.max((seen or 0) + 0, lowest)
    if ballot + 0 <= floor then return '3', text_of(floor) end
    local done = try('SET', fence, ballot, 'PX', KEEP)
    if done.err then return 'f', done.err end
    if left > tonumber(ttl) then ttl = left end
    done = try('SET', lock, own and record or firm(record), 'PX', ttl)
    if done.err then return 'f', done.err end
    return '1'
  end

  -- The lock was free and is written, and so is its fence, over seen, which refuses this. Both are put back: for the
  -- fence for its full time again, which refuses no less.
  local function take_back(lock, fence, seen)
    call('DEL', lock)
    -- A server out of memory refuses a script's first write, never a later one, so the fence comes back for sure.
    if seen then call('SET', fence, seen, 'PX', KEEP) else call('DEL', fence) end
    return '3', text_of(math.max((seen or 0) + 0, lowest))
  end

  local function extend(lock, _, lease, ttl)
    local held = try('GET', lock)
    if not held then return '0' end
    if held.err then return 'f', held.err end
    if not is_of(held, lease) then return '2' end
    local left = call('PTTL', lock)
    ttl = tonumber(ttl)
    if left > ttl then ttl = left end
    if byte(held, 18) ~= 45 then
      local done = try('SET', lock, firm(held), 'PX', ttl)
      if done.err then return 'f', done.err end
    elseif left < ttl then
      call('PEXPIRE', lock, ttl)
    end
    return '1', {ttl, held}
  end

  local function cancel(lock, fence, lease, attempt, up_to)
    local held, letter = try('GET', lock), '0'
    if held and not held.err and is_of(held, lease) and sub(held, 18, 33) == attempt then
      call('DEL', lock)
      letter = '1'
    end
    local said = raise_fence(fence, up_to)
    if said then return 'f', said end
    return letter
  end

  local function inspect(lock)
    local held = try('GET', lock)
    if not held then return '0' end
    if held.err then return 'f', held.err end
    return '1', {call('PTTL', lock), held}
  end

  local function scan(_, _, cursor, pattern, count)
    local page = try('SCAN', cursor, 'MATCH', pattern, 'COUNT', count, 'TYPE', 'string')
    if page.err then return 'f', page.err end
    return '1', page
  end

  return {
    raise_fence = raise_fence, acquire_held = acquire_held, take_back = take_back, E = extend, C = cancel, I = inspect, S = scan,
  }
end
local made
local function other(name)
  -- Under a foreign epoch the window may be another, and nothing that its gateway sent can be accepted anyway.
  made = made or make_others(call, try, lowest, highest, KEEP, refusal ~= 'e')
  return made[name]
end

-- Each verb's arguments and letters:
--   A  acquire  record, ttl             1 accepted, 2 mine {left, record}, 0 busy {left, record}, 3 stale (floor), 4 ahead,
--                                       5 foreign key
--   O  acquire  record, ttl, over       the same; over is the highest ballot of another attempt that it may raise
--   R  release  lease or '', up_to      1 freed, 0 not held, 2 held by another, 3 held under a newer ballot (record)
--   E  extend   lease, ttl              1 extended and firm {left, record}, 0 gone, 2 held by another
--   C  cancel   lease, attempt, up_to   1 freed, 0 nothing to free
--   I  inspect                          0 free, 1 held {left, record}
--   S  scan     cursor, pattern, count  1 {cursor, names}
local letters, reply, k, a, n = {}, {now, ''}, 3, 3, 0
local verb = ARGV[a]
while verb do
  local first, last = n + 1, n + ARGV[a + 1]
  a = a + 2
  if verb == 'R' then
    local held, freed = call('MGET', unpack(KEYS, k, k + last - first)), {}
    for i, record in ipairs(held) do
      local lease, up_to, letter, detail = ARGV[a], ARGV[a + 1], '0', nil
      local ballot = record and sub(record, 1, 16)
      if ballot then
        local from = sub(record, 18, 18) == '-' and 20 or 35
        -- Where no lease is named any record will do that is ours.
        if lease == '' and not string.find(record, '^%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d ') or sub(record, from, from + #lease - 1) ~= lease then
          letter = '2'
        elseif ballot > up_to then
          letter, detail = '3', record
        else
          letter = '1'
          if ballot == up_to then
            freed[#freed + 1] = KEYS[k]
          else
            -- First, and at once: a server that is out of memory refuses to raise a fence unless something was deleted.
            call('DEL', KEYS[k])
          end
        end
      end
      -- If the lock is freed up to its own ballot, the fence was raised to it with the lock.
      if letter ~= '1' or ballot ~= up_to then
        local said = other('raise_fence')(FENCES .. sub(KEYS[k], LOCKS + 1), up_to)
        if said then letter, detail = 'f', said end
      end
      n, k, a = n + 1, k + 1, a + 2
      letters[n] = letter
      if detail then reply[#reply + 1] = detail end
    end
    if freed[1] then call('DEL', unpack(freed)) end
  else
    local arguments = verb == 'A' and 2 or verb == 'E' and 2 or verb == 'I' and 0 or 3
    for i = first, last do
      local lock, fence, letter, detail = KEYS[k], KEYS[k + 1], '4', nil
      if refusal and verb ~= 'C' then
        letter, detail = refusal, reason
      elseif verb == 'A' or verb == 'O' then
        local record, ttl = ARGV[a], ARGV[a + 1]
        local ballot = sub(record, 1, 16)
        local number = ballot + 0
        if number <= highest then
          -- Written first and looked at after: in the usual case two calls are enough.
          local done = try('SET', lock, record, 'PX', ttl, 'NX')
          if not done then
            letter, detail = other('acquire_held')(lock, fence, record, ttl, verb == 'O' and ARGV[a + 2] or '')
          elseif done.err then
            letter, detail = 'f', done.err
          else
            local seen = try('SET', fence, ballot, 'PX', KEEP, 'GET')
            if seen and seen.err then
              call('DEL', lock)
              letter, detail = 'f', seen.err
            elseif lowest < number and (not seen or seen < ballot) then
              letter = '1'
            else
              letter, detail = other('take_back')(lock, fence, seen)
            end
          end
        end
      else
        letter, detail = other(verb)(lock, fence, ARGV[a], ARGV[a + 1], ARGV[a + 2])
      end
      letters[i], n = letter, i
      k, a = verb == 'S' and k or k + 2, a + arguments
      if detail then reply[#reply + 1] = detail end
    end
  end
  verb = ARGV[a]
end
reply[2] = table.concat(letters)
return reply
