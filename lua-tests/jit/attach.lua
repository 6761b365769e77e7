-- Listeners to the compiler: what they are told fits together, and listening changes no result.
local util = require("jit.util")
local seen = { start = 0, stop = 0, abort = 0, flush = 0, record = 0, texit = 0 }
local odd = {}
local open
local function note(ok, what)
  if not ok then odd[#odd + 1] = what end
end
local function on_trace(what, tr, func, pc, other, exit)
  seen[what] = seen[what] + 1
  if what == "flush" then return end
  note(type(tr) == "number" and tr >= 1, what .. " without a trace")
  note(type(func) == "function" and type(pc) == "number", what .. " without a place")
  note(util.funcinfo(func, pc).currentline, what .. " at no line")
  if what == "start" then
    open = tr
    note((other == nil) == (exit == nil), "half a parent")
  elseif what == "stop" then
    note(util.traceinfo(tr), "a stopped trace that is none")
  else
    local text = require("jit.vmdef").traceerr[other]
    note(text and (text:find("%%s") == nil) == (exit == nil), "an abort without a reason")
  end
  collectgarbage("step")
end
local function on_record(tr, func, pc, depth)
  seen.record = seen.record + 1
  note(type(func) == "function" and depth >= 0, "record")
  note(util.funcinfo(func).bytecodes and pc >= 0 or pc == -1, "a position without bytecode")
  local s = 0
  for i = 1, 5 do s = s + i end
end
local function on_exit(tr, exit)
  seen.texit = seen.texit + 1
  note(tr >= 1 and exit >= 0, "texit")
end
local function work()
  local s, t = 0, {}
  for i = 1, 400 do
    if i % 3 == 0 then s = s + i else s = s - 1 end
    t[i % 10 + 1] = { i }
  end
  for i = 1, 200 do s = s + #tostring(i) end
  return s
end
local plain = work()
jit.flush()
jit.attach(on_trace, "trace")
jit.attach(on_record, "record")
jit.attach(on_exit, "texit")
local same = true
for i = 1, 20 do same = same and work() == plain end
jit.flush()
local _ = 1
jit.attach(on_trace)
jit.attach(on_record)
jit.attach(on_exit)
local was = seen.record + seen.start
for i = 1, 5 do same = same and work() == plain end
print(same, was == seen.record + seen.start, #odd, odd[1])
-- With a compiler there is something to tell.
if jit.status() then
  print(seen.start > 0, seen.record > 0, seen.flush == 1, seen.stop + seen.abort <= seen.start)
else
  print(true, true, true, true)
end
print(pcall(jit.attach, print, "nothing"))
