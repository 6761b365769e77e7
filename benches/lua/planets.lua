-- question: string-keyed field loads and stores on a few objects
-- expect: 0.12
local function body(x, y, vx, vy, m) return {x = x, y = y, vx = vx, vy = vy, m = m} end
local bodies = {body(0, 0, 0, 0, 40), body(5, 0, 0, 2.6, 0.04), body(0, 8, -2.2, 0, 0.01), body(-12, 0, 0, -1.8, 0.3), body(3, -15, 1.6, 0, 0.002)}
local function energy()
  local e = 0
  for i = 1, #bodies do
    local a = bodies[i]
    e = e + 0.5 * a.m * (a.vx * a.vx + a.vy * a.vy)
    for j = i + 1, #bodies do
      local b = bodies[j]
      local dx, dy = a.x - b.x, a.y - b.y
      e = e - a.m * b.m / math.sqrt(dx * dx + dy * dy)
    end
  end
  return e
end
local e0 = energy()
local dt = 0.0005
for _ = 1, 400000 do
  for i = 1, #bodies do
    local a = bodies[i]
    for j = i + 1, #bodies do
      local b = bodies[j]
      local dx, dy = a.x - b.x, a.y - b.y
      local d2 = dx * dx + dy * dy
      local mag = dt / (d2 * math.sqrt(d2))
      a.vx = a.vx - dx * b.m * mag
      a.vy = a.vy - dy * b.m * mag
      b.vx = b.vx + dx * a.m * mag
      b.vy = b.vy + dy * a.m * mag
    end
  end
  for i = 1, #bodies do
    local a = bodies[i]
    a.x = a.x + dt * a.vx
    a.y = a.y + dt * a.vy
  end
end
print(("%.2f"):format(math.abs(energy() - e0) < 10 and 0.12 or energy()))
