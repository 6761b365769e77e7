-- resty.core.base: return codes, table helpers, and buffers for libraries that call C.
local M, get_request = ...

M.get_request = get_request
M.new_tab = require "table.new"
M.clear_tab = require "table.clear"

M.FFI_OK = 0
M.FFI_ERROR = -1
M.FFI_AGAIN = -2
M.FFI_BUSY = -3
M.FFI_DONE = -4
M.FFI_DECLINED = -5
M.FFI_ABORT = -6
M.FFI_NO_REQ_CTX = -100
M.FFI_BAD_CONTEXT = -101

local buffer_size, buffer, size_pointer, message_pointer = 4096, nil, nil, nil

local function new(...)
    return require("ffi").new(...)
end

function M.set_string_buf_size(size)
    if size > 0 then
        buffer_size, buffer = math.ceil(size), nil
    end
end

function M.get_string_buf_size()
    return buffer_size
end

function M.get_string_buf(size, must_alloc)
    if must_alloc or size > buffer_size then
        return new("char[?]", size)
    end
    buffer = buffer or new("char[?]", buffer_size)
    return buffer
end

function M.get_size_ptr()
    size_pointer = size_pointer or new("size_t[1]")
    return size_pointer
end

function M.get_errmsg_ptr()
    message_pointer = message_pointer or new("char *[1]")
    return message_pointer
end

-- Slot 0 heads the list of free slots, each of which names the next.
function M.ref_in_table(t, value)
    if value == nil then
        return -1
    end
    local free = t[0]
    if free and free ~= 0 then
        t[0] = t[free]
    else
        free = #t + 1
    end
    t[free] = value
    return free
end

function M.allows_subsystem(...)
    for i = 1, select("#", ...) do
        if select(i, ...) == ngx.config.subsystem then
            return
        end
    end
    error("unsupported subsystem: " .. ngx.config.subsystem, 2)
end
