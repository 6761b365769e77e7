--- +ffi
-- Formats and bit operations of C data.
local ffi, bit = require "ffi", require "bit"
print(("%d %x %o %u %5d|%-5d|%i"):format(42LL, 255ULL, 8LL, 2^63 + 0ULL, 7LL, 7LL, -9LL), ("%d"):format(-1ULL), ("%x"):format(-1LL), ("%s"):format(5LL)) print(pcall(string.format, "%g", 5LL))
print(pcall(bit.band, ffi.new("char[2]"), 1))
