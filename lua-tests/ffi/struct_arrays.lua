--- +ffi
-- Arrays of structs, nested members, pointers into them.
local ffi = require "ffi"
ffi.cdef [[
typedef struct { uint8_t red, green, blue, alpha; } pixel;
typedef struct { int id; struct { double x, y; } at; pixel color[2]; } shape;
]]
local n = 200
local shapes = ffi.new("shape[?]", n)
for i = 0, n - 1 do
  local s = shapes[i]
  s.id = i
  s.at.x, s.at.y = i * 0.5, -i
  s.color[0].red = i
  s.color[1] = { 1, 2, 3, i % 256 }
end
local sum, alpha, red = 0, 0, 0
local p = shapes + 0
for i = 0, n - 1 do
  sum = sum + p.id + p.at.x + p.at.y
  alpha = alpha + p.color[1].alpha
  red = red + shapes[i].color[0].red
  p = p + 1
end
print(sum, alpha, red, p - shapes)
print(ffi.sizeof("shape"), ffi.offsetof("shape", "color"), ffi.sizeof(shapes))
local copy = ffi.new("shape", shapes[7])
copy.at.x = 100
print(copy.id, copy.at.x, shapes[7].at.x)
