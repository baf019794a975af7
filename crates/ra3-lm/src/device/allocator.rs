//! How the system treats large buffers: when their memory goes back, and in what pages it lies.

use std::ops::Range;

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

/// Buffers that grow beyond this size get room for huge pages.
const GROWN_BYTES_MIN: usize = 1 << 20;
/// Buffers from this size on are asked to lie in huge pages.
const HUGE_BYTES_MIN: usize = 4 << 20;
/// What the kernel is asked for begins and ends between such pages.
#[cfg(target_os = "linux")]
const PAGE: usize = 4 << 10;

/// `n` numbers of one value, in huge pages where there are many and the kernel has them: what is
/// read in sequence from memory is then read faster, since one stream need not stop at every 4 kB.
pub(crate) fn filled<T: Clone>(value: T, n: usize) -> Vec<T> {
    let mut buffer = Vec::with_capacity(n);
    ask_for_huge_pages(buffer.spare_capacity_mut().as_mut_ptr_range());
    buffer.resize(n, value);
    buffer
}

/// Lengthens a buffer to `n` numbers. One that outgrows a mebibyte gets room for several huge pages
/// at once, since what is read here and there finds its pages sooner the fewer there are; what is
/// not written of that takes no memory.
pub(crate) fn grow<T: Copy>(buffer: &mut Vec<T>, n: usize, value: T) {
    let (n_bytes, n_held) = (n * size_of::<T>(), buffer.capacity() * size_of::<T>());
    if n_bytes > n_held && n_bytes > GROWN_BYTES_MIN {
        let n_bytes = (2 * n_bytes).max(2 * HUGE_BYTES_MIN);
        let mut longer = Vec::with_capacity(n_bytes / size_of::<T>());
        ask_for_huge_pages(longer.spare_capacity_mut().as_mut_ptr_range());
        longer.extend_from_slice(buffer);
        *buffer = longer;
    }
    buffer.resize(n, value);
}

/// `n` zeros, as [`filled`]. Where the system gives the memory it has just cleared it, and nothing
/// is written again.
pub(crate) fn zeros(n: usize) -> Vec<f32> {
    let mut buffer = vec![0.0; n];
    ask_for_huge_pages(buffer.as_mut_ptr_range());
    buffer
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "madvise is a foreign function: see below")]
fn ask_for_huge_pages<T>(memory: Range<*mut T>) {
    if memory.end.addr() - memory.start.addr() < HUGE_BYTES_MIN {
        return;
    }
    let first = memory.start.addr().next_multiple_of(PAGE);
    let last = memory.end.addr() / PAGE * PAGE;
    let start = memory.start.with_addr(first);
    // SAFETY: whole pages of a buffer, whose contents the advice leaves as they are. A kernel
    // without such pages refuses, and nothing follows from that.
    let _ = unsafe { libc::madvise(start.cast(), last - first, libc::MADV_HUGEPAGE) };
}

/// Other systems have their own ways.
#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages<T>(_memory: Range<*mut T>) {}
