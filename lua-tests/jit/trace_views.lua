-- jit.util's view of traces: what jit.dump reads fits together. Without a compiler there is nothing to see.
local util = require "jit.util"
local vmdef = require "jit.vmdef"
local odd = {}
local function note(ok, what, ...)
  if not ok then odd[#odd + 1] = what:format(...) end
end
local key = {}
local function work(n)
  local s, t = 0, { [key] = 1, x = 2 }
  for i = 1, n do
    s = s + i % 7 + t.x + t[key] + math.sin(i)
    if i % 5 == 0 then s = s - #("text" .. i) end
  end
  return s
end
local plain = work(50)
for _ = 1, 60 do note(work(50) == plain, "another result") end

local function name(ot)
  local at = 6 * bit.rshift(ot, 8)
  return vmdef.irnames:sub(at + 1, at + 6)
end
local function constant(tr, r, nk)
  local n = select("#", util.tracek(tr, r))
  note(r < 0 and r >= -nk and (n == 2 or n == 3), "constant %d of %d: %d values", r, nk, n)
end
local seen = { instructions = 0, snapshots = 0, code = 0, SLOAD = 0, LOOP = 0, HREFK = 0, keys = 0, exits = 0 }
local function view(tr, info)
  local code, address, loop = util.tracemc(tr)
  for i = 1, info.nins do
    local m, ot, a, b, place = util.traceir(tr, i)
    seen.instructions = seen.instructions + 1
    local op = name(ot)
    note(place and op:match("^%u[%u%d]* *$"), "instruction %d", i)
    if seen[op:match("%u+")] then seen[op:match("%u+")] = seen[op:match("%u+")] + 1 end
    for shift, r in pairs { [0] = a, [2] = b } do
      local kind = bit.band(bit.rshift(m, shift), 3)
      note(kind == 0 or kind == 1 or kind == 3, "kind %d", kind)
      if kind == 0 and r < 0 then constant(tr, r, info.nk) end
      if kind == 0 and r >= 0 then note(r < i or op == "PHI   ", "%s %d uses %d", op, i, r) end
    end
    if op == "HREFK " then
      local k, t, slot = util.tracek(tr, b)
      if (k == "x" and t == 4 or k == key and t == 11) and slot then seen.keys = seen.keys + 1 end
    end
    if op:sub(1, 4) == "CALL" and bit.band(bit.rshift(m, 2), 3) == 1 then
      note(type(vmdef.ircall[b]) == "string" and util.ircalladdr(b) ~= 0, "helper %d", b)
    end
  end
  note(not util.traceir(tr, info.nins + 1) and not util.tracek(tr, -info.nk - 1), "more than there is")
  local last = 0
  for n = 0, info.nexit - 1 do
    local s = util.tracesnap(tr, n)
    note(s[0] >= last and s[0] <= info.nins + 1, "snapshot %d at %d", n, s[0])
    last = s[0]
    local slot = -1
    local i = 2
    while bit.rshift(s[i], 24) ~= 255 do
      local at, ref = bit.rshift(s[i], 24), bit.band(s[i], 0xffff) - 0x8000
      note(at > slot and at < s[1], "slot %d of %d", at, s[1])
      slot = at
      if ref < 0 then constant(tr, ref, info.nk) else note(ref < s[0], "snapshot of what follows") end
      i = i + 1
    end
    seen.snapshots = seen.snapshots + 1
    local stub = util.traceexitstub(tr, n)
    if type(stub) == "number" and stub > 0 then seen.exits = seen.exits + 1 end
  end
  note(not util.tracesnap(tr, info.nexit) and not util.traceexitstub(tr, info.nexit), "more exits than there are")
  if code then
    seen.code = seen.code + #code
    note(#code > 0 and address > 0 and loop >= 0 and loop < #code, "code at %s", tostring(address))
  end
end
if jit.status() and util.traceinfo(1) then
  local tr = 1
  while util.traceinfo(tr) do
    view(tr, util.traceinfo(tr))
    tr = tr + 1
  end
  print(seen.instructions > 20, seen.snapshots > 2, seen.code > 100, seen.SLOAD > 0, seen.LOOP > 0, seen.HREFK > 0, seen.keys > 0,
    seen.exits == seen.snapshots)
  print(select("#", util.traceexitstub(0)), select("#", util.ircalladdr(-1)), select("#", util.ircalladdr(1e6)), pcall(util.traceir, 1))
  jit.flush()
  print((util.traceinfo(1)), (util.traceir(1, 1)), (util.tracek(1, -1)), (util.tracesnap(1, 0)), (util.tracemc(1)), (util.traceexitstub(1, 0)))
else
  print(true, true, true, true, true, true, true, true)
  print(0, 0, 0, false, "bad argument #2 to '?' (number expected, got no value)")
  print(nil, nil, nil, nil, nil, nil)
end
print(#odd, odd[1])

-- A profiler that wants each line or function makes compiled code look there.
local profile = require "jit.profile"
local function one(x)
  x = x + 1
  return x
end
local function polls(mode)
  profile.start(mode .. "i1000000", function() end)
  jit.flush()
  local s = 0
  for i = 1, 300 do
    s = one(s)
    s = s + 2
    s = s - i
  end
  local n, tr = 0, 1
  while util.traceinfo and util.traceinfo(tr) do
    for i = 1, util.traceinfo(tr).nins do
      if name((select(2, util.traceir(tr, i)))) == "POLL  " then n = n + 1 end
    end
    tr = tr + 1
  end
  profile.stop()
  return n, s
end
local rounds, a = polls("")
local functions, b = polls("f")
local lines, c = polls("l")
print(a == b and b == c)
print(not (jit.status() and rounds > 0) or rounds < functions and functions < lines)
