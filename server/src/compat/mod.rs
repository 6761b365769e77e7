//! Functions of nginx that OpenResty's libraries call through the ffi as `ffi.C.ngx_*`: offered to the ffi of the server's VMs
//! by address, because this program exports no C symbols.

/// Address of the function `name`, if it is one of these.
pub fn address(name: &[u8]) -> Option<usize> {
    Some(match name {
        b"ngx_hex_dump" => ngx_hex_dump as *const () as usize,
        b"ngx_atoi" => ngx_atoi as *const () as usize,
        _ => return None,
    })
}

/// `u_char *ngx_hex_dump(u_char *dst, u_char *src, size_t len)`: two lower-case digits for each byte; the end of what was
/// written.
///
/// # Safety
/// `src` has `len` readable bytes, `dst` room for twice as many, and they do not overlap.
unsafe extern "C" fn ngx_hex_dump(dst: *mut u8, src: *const u8, len: usize) -> *mut u8 {
    for i in 0..len {
        // SAFETY: `i` is below `len`, and the caller promises the room.
        unsafe {
            let byte = *src.add(i);
            *dst.add(2 * i) = b"0123456789abcdef"[usize::from(byte >> 4)];
            *dst.add(2 * i + 1) = b"0123456789abcdef"[usize::from(byte & 15)];
        }
    }
    dst.wrapping_add(2 * len)
}

/// `ngx_int_t ngx_atoi(u_char *line, size_t n)`: the number that `n` decimal digits make; -1 for anything else.
///
/// # Safety
/// `line` has `n` readable bytes.
unsafe extern "C" fn ngx_atoi(line: *const u8, n: usize) -> isize {
    let mut value: isize = 0;
    for i in 0..n {
        // SAFETY: `i` is below `n`.
        let byte = unsafe { *line.add(i) };
        let next = value.checked_mul(10).and_then(|v| v.checked_add(isize::from(byte.wrapping_sub(b'0'))));
        match next {
            Some(v) if byte.is_ascii_digit() => value = v,
            _ => return -1,
        }
    }
    if n == 0 { -1 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_digits_are_nginxs() {
        let atoi = |s: &str| {
            // SAFETY: the bytes of a string.
            unsafe { ngx_atoi(s.as_ptr(), s.len()) }
        };
        assert_eq!([atoi("0"), atoi("0123"), atoi(""), atoi("-1"), atoi("1 ")], [0, 123, -1, -1, -1]);
        assert_eq!([atoi("9223372036854775807"), atoi("9223372036854775808")], [isize::MAX, -1]);
        let mut out = [0u8; 6];
        // SAFETY: room for twice three bytes.
        let end = unsafe { ngx_hex_dump(out.as_mut_ptr(), [0x0f, 0xa0, 0xff].as_ptr(), 3) };
        assert_eq!((&out, end as usize - out.as_ptr() as usize), (b"0fa0ff", 6));
        assert!(address(b"ngx_hex_dump").is_some() && address(b"ngx_nothing").is_none());
    }
}
