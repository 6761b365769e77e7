-- jit.util and jit.bc: what they tell about functions.
local util = require "jit.util"
local bc = require "jit.bc"

local up, count = 1, 0
local function f(a, b, ...)
  count = count + a
  local t = { 1, 2, x = 3 }
  for i = 1, 10 do t[i] = b .. up end
  for k, v in pairs(t) do up = v end
  if a == "text" or not b then return ... end
  return function() return a, up end, 1.5
end

local info = util.funcinfo(f)
for _, k in ipairs { "linedefined", "lastlinedefined", "stackslots", "params", "bytecodes", "gcconsts", "nconsts",
  "upvalues", "currentline", "isvararg", "children", "loc", "source" } do
  print(k, info[k])
end
print(type(info.proto), util.funcinfo(info.proto).loc == info.loc)
print(util.funcinfo(f, 1).currentline, util.funcinfo(f, 5).currentline, util.funcinfo(f, 1000).currentline)
local n = util.funcinfo(print)
print(type(n.ffid), type(n.addr), type(n.upvalues), n.linedefined)
print(util.funcuvname(f, 0), util.funcuvname(f, 1), util.funcuvname(f, 9))
print(util.funck(f, 0), util.funck(f, 1000), util.funck(f, -1000))
for i = -1, -info.gcconsts, -1 do
  local k = util.funck(f, i)
  print(i, type(k), type(k) == "string" and k or "")
end
local ins, mode = util.funcbc(f, 1)
print(type(ins), type(mode), util.funcbc(f, 100000))
print(pcall(util.funcinfo, 1))
print(pcall(util.funcbc, print, 1))
print(pcall(util.funck, {}, 1))

-- listings
local out = { text = {}, write = function(self, s) self.text[#self.text + 1] = s end, flush = function() end }
bc.dump(f, out, true)
io.write(table.concat(out.text))
io.write(bc.line(f, 1), bc.line(f, 2, "=>"))
print(bc.line(f, 100000))
local jumps = {}
for pc in pairs(bc.targets(f)) do jumps[#jumps + 1] = pc end
table.sort(jumps)
print(table.concat(jumps, " "))

-- every function that is loaded, innermost first
local seen = {}
local function on_load(p) seen[#seen + 1] = util.funcinfo(p).loc end
jit.attach(on_load, "bc")
loadstring("local function a() return function() end end\nlocal function b() end", "=one")
jit.attach(on_load)
loadstring("return 1", "=two")
print(table.concat(seen, " "))

local zone = require "jit.zone"
zone("a") zone("b")
print(zone:get(), zone(), zone:get())
zone:flush()
print(zone:get(), (select(2, pcall(zone)):gsub("^[^:]*:%d+: ", "")))
