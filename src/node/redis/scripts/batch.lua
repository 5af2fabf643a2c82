-- One batch of commands on one node: the only script that votes. node/state/mod.rs says the same in Rust.
--
-- Above it batch.rs writes the settings: W, B and G in microseconds, KEEP (how long a fence is kept) in milliseconds,
-- FENCES (what a fence's name begins with), LOCKS (how many bytes the names of locks begin with), LONGEST (max_ttl)
-- in milliseconds and TOGETHER (how many may share a lock).
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
local call, try, sub, byte, find = redis.call, redis.pcall, string.sub, string.byte, string.find
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

-- What most batches do without. A record is `ballot(16) attempt(16)-or-dash lease owner`, and may end with a tabulator and
-- `ends kept delay`, all in milliseconds; a lease comes with the blank behind it. Another program's record has something else there.
local function make_others(call, try, now, lowest, highest, KEEP, may_raise, LOCKS, LONGEST, TOGETHER)
  local sub, byte, format = string.sub, string.byte, string.format
  local now_ms = math.floor(now / 1000)
  local made, make_many
  -- What only those need who hold a lock together, and sets of locks.
  local function many(name)
    made = made or make_many()
    return made[name]
  end

  -- A ballot as it stands in a record.
  local function text_of(ballot)
    return string.format('%016.0f', ballot)
  end

  local function is_of(record, lease)
    local from = byte(record, 18) == 45 and 20 or 35
    return sub(record, from, from + #lease - 1) == lease
  end

  -- For how long from now on a record is to stay that is extended by ttl.
  local function lasting(record, ttl)
    local ends, _, delay = string.match(record, '\t(%d+) (%d+) (%d+)')
    if not ends then return ttl + 0 end
    local left = ends - now_ms
    ttl = math.min(ttl, math.max(LONGEST - delay, 0))
    if ends + 0 > 0 and left < ttl then ttl = math.max(left, 0) end
    return ttl + delay
  end

  -- How long a record stays after the end of its lease.
  local function delay_of(record)
    return (string.match(record, '\t%d+ %d+ (%d+)') or 0) + 0
  end

  -- Nothing is left of the lease, whose record stays for left more.
  local function is_over(record, left)
    local delay = delay_of(record)
    return delay > 0 and left <= delay
  end

  -- Nobody's, because it was released too early.
  local function is_kept(record)
    return string.find(record, 'kept+for+min+hold ', 20, true) == 20
  end

  -- Keeps a lock that was released before it may be free. Returns whether, and what went wrong, if something did.
  local function keep(lock, record)
    local owner, kept = string.match(record, '^%d+ %S+ %S+ ([^\t]*)\t%d+ (%d+)')
    local left = kept and math.min(kept - now_ms, call('PTTL', lock)) or 0
    if left <= 0 then return end
    local text = sub(record, 1, 16) .. ' - kept+for+min+hold ' .. owner
    call('DEL', lock) -- a server that is out of memory refuses to write unless something was deleted
    return true, try('SET', lock, text, 'PX', format('%.0f', left)).err
  end

  -- The same record, firm: no cancel can free it.
  local function firm(record)
    if byte(record, 18) == 45 then return record end
    return sub(record, 1, 17) .. '-' .. sub(record, 34)
  end

  -- A fence is a ballot, or two with a blank between them: the second is for those who share the lock.
  -- A tombstone: refuses an acquire that its own cancel or release overtook. Capped, so that nobody can poison a fence.
  -- Returns what went wrong, if something did.
  local function raise_fence(fence, up_to)
    if not may_raise then return end
    if highest < up_to + 0 then up_to = text_of(highest) end
    if up_to + 0 <= lowest then return end
    local seen = call('MGET', fence)[1] or ''
    local low, high = sub(seen, 18), sub(seen, 1, 16)
    if low == '' then low = high end
    if up_to > low then return try('SET', fence, high > up_to and high .. ' ' .. up_to or up_to, 'PX', KEEP).err end
  end

  -- What the lock is to an acquire that wants it alone: one of the letters below, or w if it can be written, with the time
  -- that the lease has left and whether it is to be firm.
  local function look(lock, held, record, over)
    if not held then
      if call('PTTL', lock) ~= -2 then return '5' end -- not a string: not ours
      return 'w', nil, 0
    end
    if byte(held) == 115 then
      local limit, _, sharers = many('read')(held)
      if limit then
        if not sharers[1] then return 'w', nil, 0 end
        return '0', many('in_the_way')(sharers)
      end
    end
    local left = call('PTTL', lock)
    if not is_of(held, string.match(record, '^%d+ %x+ (%S+ )')) or is_over(held, left) then return '0', {left, held} end
    local ballot, old = sub(record, 1, 16), sub(held, 1, 16)
    local own = sub(held, 18, 33) == sub(record, 18, 33)
    if own and old == ballot then return '1' end
    -- An earlier round that arrives after a later one changes nothing; firm, the record could not be cancelled.
    if own and ballot < old then return '3', old end
    if not own and over < old then return '2', {left, held}, left end
    return 'w', nil, left, not own
  end

  -- Lets a record stand. Returns what went wrong, if something did.
  local function let_stand(lock, held)
    if byte(held, 18) ~= 45 then return try('SET', lock, firm(held), 'KEEPTTL').err end
  end

  local function write(lock, fence, record, ttl, left, is_firm)
    local done = try('SET', fence, sub(record, 1, 16), 'PX', KEEP)
    if done.err then return 'f', done.err end
    if left > tonumber(ttl) then ttl = left end
    done = try('SET', lock, is_firm and firm(record) or record, 'PX', ttl)
    if done.err then return 'f', done.err end
    return '1'
  end

  -- The lock is there already. record is the caller's, over the highest ballot of another attempt that it may raise.
  local function acquire_held(lock, fence, record, ttl, over, holds_back)
    local found = call('MGET', lock, fence)
    local held, seen = found[1], found[2]
    local letter, detail, left, is_firm = look(lock, held, record, over)
    if letter == '2' then
      local said = let_stand(lock, held)
      if said then return 'f', said end
    elseif letter == '0' and holds_back and detail[3] then
      many('hold_back')(lock, held, holds_back)
    elseif letter == 'w' then
      local high = seen and sub(seen, 1, 16) + 0 or 0
      local floor = math.max(high, lowest)
      if sub(record, 1, 16) + 0 <= floor then return '3', text_of(floor) end
      return write(lock, fence, record, ttl, left, is_firm)
    end
    return letter, detail
  end

  -- The lock was free and is written, and so is its fence, over seen, which refuses this. Both are put back: for the
  -- fence for its full time again, which refuses no less.
  local function take_back(lock, fence, seen)
    call('DEL', lock)
    -- A server out of memory refuses a script's first write, never a later one, so the fence comes back for sure.
    if seen then call('SET', fence, seen, 'PX', KEEP) else call('DEL', fence) end
    return '3', text_of(math.max(seen and sub(seen, 1, 16) + 0 or 0, lowest))
  end

  -- Lets a record of which so much is left last by ttl from now, if it may, and makes it firm.
  local function prolong(lock, held, left, ttl)
    ttl = lasting(held, ttl)
    if byte(held, 18) ~= 45 then
      local done = left < ttl and try('SET', lock, firm(held), 'PX', ttl) or try('SET', lock, firm(held), 'KEEPTTL')
      if done.err then return 'f', done.err end
    elseif left < ttl then
      call('PEXPIRE', lock, ttl)
    end
    return '1', {math.max(left, ttl), held}
  end

  local function extend(lock, _, lease, ttl)
    local held = try('GET', lock)
    if not held then return '0' end
    if held.err then return 'f', held.err end
    if byte(held) == 115 then
      local letter, detail = many('extend')(lock, held, lease, ttl)
      if letter then return letter, detail end
    end
    if not is_of(held, lease) then return is_kept(held) and '0' or '2' end
    local left = call('PTTL', lock)
    if is_over(held, left) then return '0' end
    return prolong(lock, held, left, ttl)
  end

  local function cancel(lock, fence, lease, attempt, up_to)
    local held, letter = try('GET', lock), '0'
    if held and not held.err then
      if is_of(held, lease) and sub(held, 18, 33) == attempt then
        call('DEL', lock)
        letter = '1'
      elseif byte(held) == 115 then
        local done, said = many('cancel')(lock, held, lease, attempt)
        if said then return 'f', said end
        letter = done
      end
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

  -- Those who hold a lock together are in one text:
  -- `shared limit awaited`, then a line for each: `expires slot` and the record, the times in milliseconds.
  function make_many()
    local gmatch = string.gmatch

    -- The limit, until when others are held back, and those whose leases are not over; nothing of a text that is not ours.
    local function read(text)
      local limit, awaited = string.match(text, '^shared (%d+) (%d+)\n')
      if not limit then return end
      local sharers = {}
      for expires, slot, record in gmatch(text, '\n(%d+) (%d+) ([^\n]*)') do
        if now_ms <= expires + 0 then sharers[#sharers + 1] = {expires + 0, slot, record} end
      end
      return limit, awaited + 0, sharers
    end

    local function write_all(lock, limit, awaited, sharers)
      local ends, lines = awaited, {format('shared %s %.0f\n', limit, awaited)}
      for i, sharer in ipairs(sharers) do
        if ends < sharer[1] then ends = sharer[1] end
        lines[i + 1] = format('%.0f %s %s\n', sharer[1], sharer[2], sharer[3])
      end
      if ends <= now_ms then
        call('DEL', lock)
        return
      end
      return try('SET', lock, table.concat(lines), 'PX', format('%.0f', ends - now_ms)).err
    end

    -- Who stays longest, as the details of a refusal begin.
    local function in_the_way(sharers)
      local longest
      for _, sharer in ipairs(sharers) do
        if not longest or longest[1] < sharer[1] then longest = sharer end
      end
      return {longest[1] - now_ms, longest[3], '1', '0'}
    end

    local function of_lease(sharers, lease)
      for i, sharer in ipairs(sharers) do
        if is_of(sharer[3], lease) then return i, sharer end
      end
    end

    -- In place of what the lease had.
    local function put(sharers, at, sharer)
      if at then table.remove(sharers, at) end
      sharers[#sharers + 1] = sharer
    end

    -- Nobody else is to share the lock for so long; not at all if that is nothing. A courtesy, which may fail.
    local function hold_back(lock, held, how_long)
      if how_long == '0' then return end
      local limit, awaited, sharers = read(held)
      write_all(lock, limit, math.max(awaited, now_ms + how_long), sharers)
    end

    local function taken_by_others(sharers, own, slot)
      if slot == '0' then return end
      local slots, is_taken = {}, false
      for _, sharer in ipairs(sharers) do
        if sharer ~= own then
          slots[#slots + 1] = sharer[2]
          is_taken = is_taken or sharer[2] == slot
        end
      end
      return is_taken and table.concat(slots, ',')
    end

    -- The lock is wanted by one who lets others in.
    local function acquire_together(lock, fence, record, ttl, over, slot, limit)
      local found = call('MGET', lock, fence)
      local held, seen = found[1], found[2]
      local held_limit, awaited, sharers = limit, 0, {}
      if held then
        held_limit, awaited, sharers = read(held)
        if not held_limit then return '0', {call('PTTL', lock), held} end
        if sharers[1] and held_limit ~= limit then
          local detail = in_the_way(sharers)
          detail[5] = held_limit
          return '7', detail
        end
      elseif call('PTTL', lock) ~= -2 then
        return '5'
      end
      local ballot, left, is_firm = sub(record, 1, 16), 0, false
      local at, own = of_lease(sharers, string.match(record, '^%d+ %x+ (%S+ )'))
      if own then
        local old = sub(own[3], 1, 16)
        left = own[1] - now_ms
        if is_over(own[3], left) then return '0', {left, own[3], '1', '0'} end
        is_firm = sub(own[3], 18, 33) ~= sub(record, 18, 33)
        if not is_firm and old == ballot then return '1' end
        if not is_firm and ballot < old then return '3', old end
        if is_firm and (over < old or own[2] ~= slot) then
          own[3] = firm(own[3])
          put(sharers, at, own)
          local said = write_all(lock, held_limit, awaited, sharers)
          if said then return 'f', said end
          return '2', {left, own[3], '1', '0', own[2]}
        end
      elseif now_ms <= awaited then
        return '0', {awaited - now_ms, '', '1', '0'}
      elseif limit == '0' and #sharers >= TOGETHER then
        return '8', in_the_way(sharers)
      end
      local taken = taken_by_others(sharers, own, slot)
      if taken then
        local detail = in_the_way(sharers)
        detail[5] = taken
        return '6', detail
      end
      local high = seen and sub(seen, 1, 16) or '0000000000000000'
      local low = seen and sub(seen, 18) ~= '' and sub(seen, 18) or high
      local floor = math.max((limit == '0' and low or high) + 0, lowest)
      if ballot + 0 <= floor then return '3', text_of(floor) end
      -- Those who share the lock come in any order among themselves.
      if limit ~= '0' or high < ballot then
        local done = try('SET', fence, limit == '0' and ballot .. ' ' .. low or ballot, 'PX', KEEP)
        if done.err then return 'f', done.err end
      end
      put(sharers, at, {now_ms + math.max(tonumber(ttl), left), slot, is_firm and firm(record) or record})
      local said = write_all(lock, limit, awaited, sharers)
      if said then return 'f', said end
      return '1'
    end

    local function extend_one(lock, held, lease, ttl)
      local limit, awaited, sharers = read(held)
      if not limit then return end
      local at, own = of_lease(sharers, lease)
      if not own or is_over(own[3], own[1] - now_ms) then return '0' end
      own[1] = math.max(own[1], now_ms + lasting(own[3], ttl))
      own[3] = firm(own[3])
      put(sharers, at, own)
      local said = write_all(lock, limit, awaited, sharers)
      if said then return 'f', said end
      return '1', {own[1] - now_ms, own[3]}
    end

    -- Nobody is in the way of a lease that has left.
    local function release_one(lock, held, lease, up_to)
      local limit, awaited, sharers = read(held)
      if not limit then return '2' end
      local kept, newest = {}, nil
      for _, sharer in ipairs(sharers) do
        local ballot, of_it = sub(sharer[3], 1, 16), lease == '' or is_of(sharer[3], lease)
        if not of_it or up_to < ballot then kept[#kept + 1] = sharer end
        if of_it and up_to < ballot and not (newest and ballot <= sub(newest, 1, 16)) then newest = sharer[3] end
      end
      if #kept < #sharers then
        call('DEL', lock) -- before anything is written, as in `keep`
        local said = write_all(lock, limit, awaited, kept)
        if said then return 'f', said end
        return '1'
      end
      return newest and '3' or '0', newest
    end

    local function cancel_one(lock, held, lease, attempt)
      local limit, awaited, sharers = read(held)
      local at, own = of_lease(sharers or {}, lease)
      if not own or sub(own[3], 18, 33) ~= attempt then return '0' end
      table.remove(sharers, at)
      call('DEL', lock)
      return '1', write_all(lock, limit, awaited, sharers)
    end

    -- The locks of a set, by the names in its own record.
    local function members_of(record)
      return gmatch(record, '\n([^\n]*)')
    end

    -- A set's own record first, then the locks that it is of: all or none. keys are all of theirs, from the first on.
    local function acquire_set(keys, first, record, of_members, ttl, over, holds_back, n)
      local ballot, found, lefts, firms = sub(record, 1, 16), {}, {}, {}
      local newest, shortest, whole, floor = nil, nil, true, nil
      for i = 0, n do
        local lock = keys[first + 2 * i]
        local held = call('MGET', lock)[1]
        found[i] = held
        local letter, detail, left, is_firm = look(lock, held, i == 0 and record or of_members, over)
        local is_other = i == 0 and held and letter ~= '5' and string.match(held, '\n.*') ~= string.match(record, '\n.*')
        if is_other then letter, detail = '0', {call('PTTL', lock), held} end
        if letter == '0' then
          if detail[3] then hold_back(lock, held, holds_back) end
          -- Which of the locks: the set's own only if it is of others.
          detail[3], detail[4] = detail[3] or '', is_other and 0 or math.max(i, 1)
          return '0', detail
        elseif letter == '5' or letter == '1' and i == 0 then
          return letter
        elseif letter == '3' then
          if not floor or floor < detail then floor = detail end
          whole = false
        elseif letter == '2' then
          local old = sub(held, 1, 16)
          whole = whole and (not newest or newest == old)
          if not newest or newest < old then newest = old end
          left = math.max(left - delay_of(held), 0)
          if not shortest or left < shortest then shortest = left end
        else
          lefts[i], firms[i], whole = left or 0, is_firm, false
        end
      end
      if newest then
        if not whole then return '2', {0, newest .. ' - ' .. string.match(record, '^%d+ %x+ (%S+ )')} end
        for i = 0, n do
          local said = let_stand(keys[first + 2 * i], found[i])
          if said then return 'f', said end
        end
        return '2', {shortest + delay_of(found[0]), found[0]}
      end
      for i = 0, n do
        local seen = call('MGET', keys[first + 2 * i + 1])[1]
        local low = text_of(math.max(seen and sub(seen, 1, 16) + 0 or 0, lowest))
        if ballot <= low and (not floor or floor < low) then floor = low end
      end
      if floor then return '3', floor end
      for i = 0, n do
        local letter, said = write(keys[first + 2 * i], keys[first + 2 * i + 1], i == 0 and record or of_members, ttl, lefts[i], firms[i])
        if said then return letter, said end
      end
      return '1'
    end

    -- Why the lease can't be extended here, of which each record has to be of one ballot; or the record and what is left of it.
    local function why_not(lock, lease, ballot)
      local held = call('MGET', lock)[1]
      if not held or read(held) then return '0' end
      if not is_of(held, lease) then return is_kept(held) and '0' or '2' end
      local left = call('PTTL', lock)
      if is_over(held, left) or ballot and sub(held, 1, 16) ~= ballot then return '0' end
      return nil, held, left
    end

    local function extend_set(lock, _, lease, ttl)
      local refusal, own, rest = why_not(lock, lease)
      if refusal then return refusal end
      -- Looked at once: Redis 7.0 lets time go on within a script, and all of them are to be extended or none.
      local found, names = {{lock, own, rest}}, sub(lock, 1, LOCKS)
      for member in members_of(own) do
        local held, left
        refusal, held, left = why_not(names .. member, lease, sub(own, 1, 16))
        if refusal then return refusal end
        found[#found + 1] = {names .. member, held, left}
      end
      local shortest
      for _, each in ipairs(found) do
        local letter, detail = prolong(each[1], each[2], each[3], ttl)
        if letter ~= '1' then return letter, detail end
        local lasts = math.max(detail[1] - delay_of(each[2]), 0)
        if not shortest or lasts < shortest then shortest = lasts end
      end
      return '1', {shortest + delay_of(own), own}
    end

    -- With the locks that it is of, of the same lease, that pass. What would write them again is refused by its fence.
    local function remove_set(lock, held, lease, passes)
      local names, gone = sub(lock, 1, LOCKS), {lock}
      for member in members_of(held) do
        local record = call('MGET', names .. member)[1]
        if record and is_of(record, lease) and passes(record) then gone[#gone + 1] = names .. member end
      end
      call('DEL', unpack(gone))
    end

    local function release_set(lock, fence, lease, up_to)
      local held, letter, detail = call('MGET', lock)[1], '0', nil
      if held then
        lease = lease ~= '' and lease or string.match(held, '^%d+ %S+ (%S+ )') or ' '
        local ballot = sub(held, 1, 16)
        if not is_of(held, lease) then
          letter = is_kept(held) and '0' or '2'
        elseif up_to < ballot then
          letter, detail = '3', held
        else
          remove_set(lock, held, lease, function(record) return sub(record, 1, 16) <= up_to end)
          if ballot == up_to then return '1' end
          letter = '1'
        end
      end
      local said = raise_fence(fence, up_to)
      if said then return 'f', said end
      return letter, detail
    end

    local function cancel_set(lock, fence, lease, attempt, up_to)
      local held, letter = call('MGET', lock)[1], '0'
      if held and is_of(held, lease) and sub(held, 18, 33) == attempt then
        remove_set(lock, held, lease, function(record) return sub(record, 18, 33) == attempt end)
        letter = '1'
      end
      local said = raise_fence(fence, up_to)
      if said then return 'f', said end
      return letter
    end

    return {
      read = read, in_the_way = in_the_way, hold_back = hold_back, extend = extend_one, release = release_one, cancel = cancel_one,
      T = acquire_together, M = acquire_set, F = extend_set, U = release_set, G = cancel_set,
    }
  end

  local others = {
    raise_fence = raise_fence, acquire_held = acquire_held, take_back = take_back, is_kept = is_kept, keep = keep,
    E = extend, C = cancel, I = inspect, S = scan,
  }
  return function(name) return others[name] or many(name) end
end

local made
local function other(name)
  -- Under a foreign epoch the window may be another, and nothing that its gateway sent can be accepted anyway.
  made = made or make_others(call, try, now, lowest, highest, KEEP, refusal ~= 'e', LOCKS, LONGEST, TOGETHER)
  return made(name)
end

-- Each verb's arguments and letters:
--   A  acquire  record, ttl             1 accepted, 2 mine {left, record}, 0 busy {left, record}, 3 stale (floor), 4 ahead,
--                                       5 foreign key
--   O  acquire  record, ttl, over,      the same; over is the highest ballot of another attempt that it may raise, and holds_back
--               holds_back              for how many ms nobody else is to share the lock, if that is in the way
--   T  acquire  record, ttl, over,      together with others: the same, and 6 taken {…, slots}, 7 other limit {…, limit},
--               slot, limit             8 crowded; details go on with 1 if it is shared, a member, a slot
--   M  acquire  record, that of its     a set with n locks, whose keys follow its own: the same as O, the details go on with
--               locks, ttl, over,       '', which of the locks; what is left of a part of a set is 0
--               holds_back, n
--   R  release  lease or '', up_to      1 freed, 0 not held, 2 held by another, 3 held under a newer ballot (record)
--   U  release  the same                of a set
--   E  extend   lease, ttl              1 extended and firm {left, record}, 0 gone, 2 held by another
--   F  extend   the same                of a set
--   C  cancel   lease, attempt, up_to   1 freed, 0 nothing to free
--   G  cancel   the same                of a set
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
        if lease == '' and not find(record, '^%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d ') or sub(record, from, from + #lease - 1) ~= lease then
          letter = '2'
          if byte(record) == 115 then
            letter, detail = other('release')(KEYS[k], record, lease, up_to)
          elseif other('is_kept')(record) then
            letter = '0'
          end
        elseif ballot > up_to then
          letter, detail = '3', record
        else
          letter = '1'
          local kept, said
          if lease ~= '' and find(record, '\t', 1, true) then kept, said = other('keep')(KEYS[k], record) end
          if said then
            letter, detail = 'f', said
          elseif kept then
          elseif ballot == up_to then
            freed[#freed + 1] = KEYS[k]
          else
            -- First, and at once: a server that is out of memory refuses to raise a fence unless something was deleted.
            call('DEL', KEYS[k])
          end
        end
      end
      -- If the lock is freed up to its own ballot, the fence was raised to it with the lock.
      if letter ~= 'f' and (letter ~= '1' or ballot ~= up_to) then
        local said = other('raise_fence')(FENCES .. sub(KEYS[k], LOCKS + 1), up_to)
        if said then letter, detail = 'f', said end
      end
      n, k, a = n + 1, k + 1, a + 2
      letters[n] = letter
      if detail then reply[#reply + 1] = detail end
    end
    if freed[1] then call('DEL', unpack(freed)) end
  else
    local arguments = (verb == 'A' or verb == 'E' or verb == 'F' or verb == 'U') and 2 or verb == 'I' and 0 or verb == 'O' and 4
      or verb == 'T' and 5 or verb == 'M' and 6 or 3
    for i = first, last do
      local lock, fence, letter, detail = KEYS[k], KEYS[k + 1], '4', nil
      if refusal and verb ~= 'C' and verb ~= 'U' and verb ~= 'G' then
        letter, detail = refusal, reason
      elseif verb == 'A' or verb == 'O' then
        local record, ttl = ARGV[a], ARGV[a + 1]
        local ballot = sub(record, 1, 16)
        local number = ballot + 0
        if number <= highest then
          -- Written first and looked at after: in the usual case two calls are enough.
          local done = try('SET', lock, record, 'PX', ttl, 'NX')
          if not done then
            letter, detail = other('acquire_held')(lock, fence, record, ttl, verb == 'O' and ARGV[a + 2] or '', verb == 'O' and ARGV[a + 3])
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
      elseif verb == 'T' then
        if sub(ARGV[a], 1, 16) + 0 <= highest then
          letter, detail = other('T')(lock, fence, ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4])
        end
      elseif verb == 'M' then
        if sub(ARGV[a], 1, 16) + 0 <= highest then
          letter, detail = other('M')(KEYS, k, ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 5] + 0)
        end
      else
        letter, detail = other(verb)(lock, fence, ARGV[a], ARGV[a + 1], ARGV[a + 2])
      end
      letters[i], n = letter, i
      if verb == 'M' then k = k + 2 * ARGV[a + 5] end
      k, a = verb == 'S' and k or k + 2, a + arguments
      if detail then reply[#reply + 1] = detail end
    end
  end
  verb = ARGV[a]
end
reply[2] = table.concat(letters)
return reply
