--- +ffi
-- Host data of coroutines: set by a pointer or a 64-bit integer, inherited, and not shared afterwards.
local ffi = require "ffi"
local exdata, exdata2 = require "thread.exdata", require "thread.exdata2"
print(exdata() == nil, exdata2() == nil)
exdata(ffi.new("uintptr_t", 0x1234567890LL))
exdata2(ffi.cast("void *", 16))
print(exdata(), exdata2())
print(coroutine.wrap(function() local was = exdata() exdata(5LL) return was, exdata(), exdata2() end)())
print(exdata())
print(pcall(exdata, 1), pcall(exdata, {}))
exdata(0ULL) exdata2(0ULL)
print(exdata() == nil, exdata2() == nil)
