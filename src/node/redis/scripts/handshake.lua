-- The first thing on every new connection, and every 500 ms after. node/state/handshake.rs says the same in Rust.
--
-- KEYS  marker, high-water mark
-- ARGV  generation, node, max_ttl (ms), W (ms), B (ms), quarantine P (ms) of these settings, what most of the nodes'
--       clocks (us), durable ('1', '0', or '?' where it can't be told), fresh ('1' or '0'), a hash of the list of nodes
-- Returns {'OK', marker, now (us)}, or {a refusal, marker, now (us)}: CLOCK_OFF, NEWER_GENERATION, OTHER_NODE,
-- OTHER_SETTINGS, CORRUPT.
local call, format, ceil, floor, max = redis.call, string.format, math.ceil, math.floor, math.max
-- What the memory of this process has been through: its start, evictions, and promotions from replica to master, after
-- which it knows what its last master knew.
local run = string.match(call('INFO', 'server'), 'run_id:(%x+)')
local evicted = string.match(call('INFO', 'stats'), 'evicted_keys:(%d+)') or '0'
if evicted ~= '0' then run = run .. '+' .. evicted end
local before = string.match(call('INFO', 'replication'), 'master_replid2:(%x+)') or '0'
if string.match(before, '[^0]') then run = run .. '-' .. string.sub(before, 1, 16) end
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = floor(now / 1000)
local generation, W, B, P = tonumber(ARGV[1]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local marker = call('GET', KEYS[1])
local high_water = tonumber(call('GET', KEYS[2]) or '0')
if math.abs(now - tonumber(ARGV[7])) > W * 1000 then
  -- Nobody asks it anything until its clock is right, so this is what notices that it comes back.
  if marker and now > high_water then call('SET', KEYS[2], format('%.0f', now)) end
  return {'CLOCK_OFF', marker or '', now}
end

local back = high_water - now
local stepped_back = back > B * 1000
local ready, certified
if marker then
  local g, node, r, at, ttl, w, b, durable, members =
    string.match(marker, '^(%d+)|([^|]*)|([^|]*)|(%d+)|(%d+)|(%d+)|(%d+)|([01])|(%x+)$')
  if not g then return {'CORRUPT', marker, now} end
  if tonumber(g) > generation then return {'NEWER_GENERATION', marker, now} end
  if tonumber(g) == generation then
    if node ~= ARGV[2] then return {'OTHER_NODE', marker, now} end
    if ttl ~= ARGV[3] or w ~= ARGV[4] or b ~= ARGV[5] or members ~= ARGV[10] then return {'OTHER_SETTINGS', marker, now} end
    if r == run and not stepped_back then
      if ARGV[8] ~= '?' then durable = ARGV[8] end
      certified = table.concat({g, node, r, at, ttl, w, b, durable, members}, '|')
    elseif not stepped_back and durable == '1' and ARGV[8] == '1' and string.match(r, '^%x*') ~= string.match(run, '^%x*') then
      ready = at -- restarted with nothing lost: it wrote every change to disk then, and does so now
    end
  end
  -- Between two settings the stricter quarantine counts.
  W = max(W, tonumber(w))
  P = max(P, tonumber(ttl) + floor(tonumber(ttl) / 100), 6 * W + B)
elseif ARGV[9] == '1' then
  ready = format('%.0f', now_ms)
end

if not certified then
  if not ready then
    local at = now_ms + P + 10 -- 10: the rounding of expiries to milliseconds
    if stepped_back then at = at + math.min(ceil(back / 1000), 2 * W) end
    ready = format('%.0f', at)
  end
  local durable = ARGV[8] == '1' and '1' or '0'
  certified = table.concat({ARGV[1], ARGV[2], run, ready, ARGV[3], ARGV[4], ARGV[5], durable, ARGV[10]}, '|')
end
if certified ~= marker then call('SET', KEYS[1], certified) end
if stepped_back or now > high_water then call('SET', KEYS[2], format('%.0f', now)) end
return {'OK', certified, now}
