-- Arguments of jit.on, jit.off, jit.flush and jit.opt.start, of jit.attach, jit.security and the views of traces.
if not jit.opt then io.write((io.open("jit_control.out"):read("*a"))) return end -- No compiler: nothing to see.
local function try(f, ...) print(pcall(f, ...)) end
local function inner() local function deep() end return deep end
local was = jit.status()
for _, name in ipairs {"on", "off", "flush"} do
  local f = jit[name]
  print(name) try(f, "x") try(f, {}) try(f, false) try(f, true) try(f, true, true) try(f, print) try(f, print, true) try(f, function() end) try(f, inner, true) try(f, inner, false) try(f, inner, 5) try(f, inner, "x", 7)
  print(pcall(function() return (f(true)) end), pcall(function() return (f(true, false)) end))
  for _, n in ipairs {0, 1, -1, 77, 1e9, 2^40} do try(f, n) end
  local proto = require("jit.util").funcinfo(inner).proto
  try(f, proto) try(f, proto, true)
end
for _, w in ipairs {"0", "1", "2", "9", "3", "", "-", "+", "x", "+fold", "-fold", "nofold", "no-fold", "no", "+-fold", "-+fold", "+nofold", "fold", "FOLD", " fold", "+fold+cse", "fold=1", "-fma", "dse", "abc", "fuse", "01", "33", "2x", "-1", "1.5", "hotloop=10", "hotloop=", "hotloop=x", "hotloop", "hotloop=-1", "hotloop=+1", "hotloop= 1", "hotloop=1x", "hotloop=2147483647", "hotloop=2147483648", "hotloop=99999999999", "-hotloop=1", "hotloop=1=2", "nope=1", "=1", "=", "maxtrace=7", "minstitch=3", "sizemcode=1", "maxmcode=16384", "maxrecord=4000", "maxirconst=500", "maxside=100", "maxsnap=500", "hotexit=10", "tryside=4", "instunroll=4", "loopunroll=15", "callunroll=3", "recunroll=2"} do
  io.write("[", w, "] ") try(jit.opt.start, w)
end
try(jit.opt.start, 3) try(jit.opt.start, 33) try(jit.opt.start, 1.5) try(jit.opt.start, nil) try(jit.opt.start, {}) try(jit.opt.start, true) try(jit.opt.start, 3, "-loop", "hotloop=56") try(jit.opt.start, 0, "bad", "+cse")
print(pcall(function() jit.opt.start("bad") end)) print(pcall(function() jit.on(5) end)) print(pcall(function() jit.flush("x") end))
local function has(name) for _, s in ipairs {select(2, jit.status())} do if s == name then return true end end return false end
local function flags() print(has "fold", has "cse", has "dce", has "narrow", has "loop", has "fwd", has "sink") end
flags() jit.opt.start(1) flags() jit.opt.start("2") flags() jit.opt.start(3) flags() jit.opt.start("-loop", "noloop", "-fwd") flags() jit.opt.start() flags() jit.opt.start("maxtrace=1000")
try(jit.attach) try(jit.attach, 5) try(jit.attach, print, {}) try(jit.attach, print, "nothing") try(jit.attach, print, "") try(jit.attach, print, nil) try(jit.attach, print)
for _, w in ipairs {"prng", "strhash", "strid", "mcode", "x", ""} do try(jit.security, w) end try(jit.security) try(jit.security, nil) try(jit.security, 5)
local util = require("jit.util")
for _, n in ipairs {"funcinfo", "funcbc", "funck", "funcuvname", "traceinfo", "traceir", "tracek", "tracesnap", "tracemc", "traceexitstub", "ircalladdr"} do
  local f = util[n]
  print(n) try(f) try(f, "x") try(f, {}) try(f, inner, "x") try(f, inner, {}) try(f, -1, 0) try(f, 1e6, 0) if n ~= "traceexitstub" then try(f, 1e6, "x") end print(select("#", pcall(f, inner, 1e6)))
end
if was then jit.on() else jit.off() end
