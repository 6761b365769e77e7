--- +ffi +compat52
-- What OpenResty's LuaJIT adds, row by row: thread.exdata, thread.exdata2, table.clone and the like.
local function try(f, ...) local function show(...) local t = {...} for i = 1, select("#", ...) do t[i] = type(t[i]) == "table" and "table" or tostring(t[i]) end print(unpack(t, 1, select("#", ...))) end show(pcall(f, ...)) end
local ffi = require "ffi"
local ed, ed2 = require "thread.exdata", require "thread.exdata2"
print(type(ed), type(ed2), package.loaded["thread.exdata"] == ed)
for _, f in ipairs{ed, ed2} do
try(f) try(f, 5) try(f, "x") try(f, {}) try(f, nil) try(f, true) try(f, ffi.cast("void *", 0x1234)) try(f) try(f, ffi.new("int[1]")) try(f, ffi.new("int", 5)) try(f, ffi.cast("int64_t", 7)) try(f, ffi.cast("uint64_t", 8)) try(f, ffi.new("int8_t", 1)) try(f, 0x1234LL) try(f) print(type(f()), tostring(ffi.typeof(f()))) try(f, ffi.new("struct {int a;}")) try(f, ffi.cast("char *", 0x99)) try(f) try(f, print) try(f, ffi.cast("void*", 0), 5) try(f) try(f, ffi.cast("void (*)()", 0x55)) try(f) try(f, io.stdout) try(f, newproxy()) try(f)
end
ed(ffi.cast("void*", 0x10)) print(coroutine.wrap(function() local a = ed() ed(ffi.cast("void*", 0x20)) local b = ed() return a, b, coroutine.wrap(function() return ed() end)() end)()) print(ed())
local s = 0 for i = 1, 200 do ed(ffi.cast("void*", i)) if ed() == ffi.cast("void*", i) then s = s + 1 end end print(s)
for _, n in ipairs{"clone", "isarray", "isempty", "nkeys", "new", "clear"} do local f = require("table." .. n) print(n, type(f), table[n] == f) try(f) try(f, 5) try(f, {}) try(f, {1, 2}) try(f, {a = 1}) try(f, {1, nil, 3}) try(f, setmetatable({}, {__len = function() return 5 end})) try(f, "x") try(f, nil, nil) try(f, 1, 2) try(f, {nil}) try(f, {[1.5] = 1}) try(f, {[2] = 2}) try(f, {[0] = 1}) try(f, {[-1] = 1}) try(f, {1, 2, x = nil}) end
local t = {1, 2, {3}, x = {y = 1}} local c = require "table.clone"(setmetatable(t, {__index = {q = 1}})) print(c[1], c[3] == t[3], c.x == t.x, getmetatable(c), c.q, #c)
for _, t in ipairs{{[0] = 1}, {[-1] = 1}, {[1e300] = 1}, {[1 / 0] = 1}, {[0.5] = 1}, {[true] = 1}} do print((require("table.isarray")(t))) end
