//! How the system's allocator treats large buffers.

/// Buffers from this size on go back to the system when they are dropped.
#[cfg(target_env = "gnu")]
const RELEASED_BYTES_MIN: i32 = 8 << 20;
/// So much that is free a thread keeps: products pack their operands anew each time, and memory
/// that comes from the system is filled with zeros first.
#[cfg(target_env = "gnu")]
const KEPT_BYTES_MAX: i32 = 32 << 20;

/// Makes glibc give large buffers back. Left alone it raises that size to 32 MiB as it goes, and
/// keeps what is freed with the thread that asked for it: after a large batch the process keeps
/// twice what it needs.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "mallopt is a foreign function: see below")]
pub(crate) fn release_large_buffers() {
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, RELEASED_BYTES_MIN),
        (libc::M_TRIM_THRESHOLD, KEPT_BYTES_MAX),
    ] {
        // SAFETY: the call takes two numbers and sets a parameter of the allocator.
        let _ = unsafe { libc::mallopt(parameter, value) };
    }
}

/// Other allocators are left as they are.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn release_large_buffers() {}
