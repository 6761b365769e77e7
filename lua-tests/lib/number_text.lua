-- Numbers to text and back.
for _, n in ipairs{0, -0, 1, -1, 10, 100, 1e5, 123456, 99999999999999, 1e14, 1e15, 1e16, 2^31, -2^31, 2^32, 2^53, 2^53 + 2, 2^63, 2^64, 0.1, 0.2 + 0.1, 1/3, 2/3, 100/3, 1e-4, 1e-5, 1.5e-10, 123.456, 3.14159265358979, 1e100, 1e300, 1.7976931348623157e308, 5e-324, 2.2250738585072014e-308, 1/0, -1/0, 0/0, 12345678901234, 123456789012345, 0.30000000000000004, 1e21, 1e22, 1e23, 4.35, 0.000123456789} do
  print(n, tostring(n), n .. "", -n)
end
local strings = {"0", "10", " 10 ", "\t\n10\r", "1e2", "1E+2", "1e-2", ".5", "5.", "0.5", "-1", "+1", "- 1", "--1", "0x10", "0XfF", "0x.8", "0x1p4", "0x1P-2", "0x1.8p1", "0x", "0xg", "0b101", "0B11", "0b", "0b2", "1e", "1e+", "e5", ".", "", " ", "abc", "1a", "1 2", "1_000", "1LL", "1i", "inf", "-inf", "nan", "infinity", "INF", "1e400", "-1e400", "1e-400", "0x1p1024", "123456789012345678901234567890", "0.1e1", "00012", "1..2", "0xffffffffffffffff", "0x123456789abcdef01", "9007199254740993", "1\0", "\0", "1e1.5", "0x1p", "0x.p1", "1f", "0e12"}
for _, s in ipairs(strings) do print(("%q"):format(s), tonumber(s), (pcall(function() return s + 0 end))) end
print("10" + 5, "3" * "4", "0x10" + 0, 10 .. 20, -"2", "2" ^ 2, "7" % 4, "10" / "4", " 5 " - 1)
print(tonumber("10", 2), tonumber("zz", 36), tonumber("ZZ", 36), tonumber("8", 8), tonumber("7", 8), tonumber("ff", 16), tonumber("0xff", 16), tonumber("-ff", 16), tonumber(" 11 ", 2), tonumber("1.5", 10), tonumber("1e1", 16), tonumber("", 16), tonumber("g", 16), tonumber("+7", 8), tonumber("1 1", 2))
print(tonumber(5), tonumber(5, 10), tonumber(11, 2), tonumber(nil), tonumber({}), tonumber(true), tonumber(print))
print(0x10, 0xA.8p0, 0x.1p4, 1e2, .5, 3., 0xffffffff, 0x7fffffffffffffff)
