//! What the system knows of a TCP connection, for `$tcpinfo_*`.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;

use super::conn::Conn;

/// What is shown of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// Round trip, microseconds.
    pub rtt_us: u32,
    /// How much it varies, microseconds.
    pub rttvar_us: u32,
    /// Congestion window, segments.
    pub snd_cwnd: u32,
    /// Receiving window, bytes.
    pub rcv_space: u32,
}

impl Conn {
    /// Asks the system; `None` where the connection is not TCP.
    pub fn tcp_info(&self) -> Option<TcpInfo> {
        self.with_socket(|socket| {
            // SAFETY: a structure of numbers, for which zeroes are values.
            let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
            let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
            // SAFETY: the descriptor is open as long as `socket` is borrowed; the system writes at most `len` bytes
            // to `info`, which has so many.
            let rc = unsafe {
                libc::getsockopt(
                    socket.as_raw_fd(),
                    libc::IPPROTO_TCP,
                    libc::TCP_INFO,
                    (&raw mut info).cast(),
                    &mut len,
                )
            };
            (rc == 0).then_some(TcpInfo {
                rtt_us: info.tcpi_rtt,
                rttvar_us: info.tcpi_rttvar,
                snd_cwnd: info.tcpi_snd_cwnd,
                rcv_space: info.tcpi_rcv_space,
            })
        })
        .flatten()
    }
}
