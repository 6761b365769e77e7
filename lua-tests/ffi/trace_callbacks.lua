--- +ffi
-- A loop that was compiled while no callback existed goes on after one was made, and the callback runs.
local ffi = require "ffi"
ffi.cdef [[
int abs(int); void qsort(void *, size_t, size_t, int (*)(const void *, const void *));
void *bsearch(const void *, const void *, size_t, size_t, int (*)(const void *, const void *));
]]
local C = ffi.C
local a = ffi.new("int[8]")
local runs, order = 0, nil
local function fill(k) for i = 0, 7 do a[i] = (i * 5 + k) % 8 end end
local function sorted() for i = 1, 7 do if a[i - 1] > a[i] then return false end end return true end
local total = 0
local function work(n)
  for i = 1, n do
    total = total + C.abs(-i)
    if order then
      fill(i)
      C.qsort(a, 8, 4, order)
      if not sorted() then error("not sorted") end
    end
  end
end
work(200)
print(total, runs)
order = ffi.cast("int (*)(const void *, const void *)", function(x, y)
  runs = runs + 1
  return ffi.cast("const int *", x)[0] - ffi.cast("const int *", y)[0]
end)
work(200)
print(total, runs > 1000)
-- An error in it comes out of the loop.
order:set(function() error("stop", 0) end)
print(pcall(work, 10))
order:free()
print(pcall(work, 10))
order = nil
work(100)
print(total)
