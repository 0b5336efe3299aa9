//! A Kademlia node in a program without std: it joins through one contact and answers a PING.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use kad_core::{
    Command, Config, Contact, Input, Instant, Kademlia, Keypair, Now, Outbox, Output, QueryId, ReplyId,
    Request, UnixTime,
};

// The start-up code and memcpy; nothing else of it is used.
#[link(name = "c")]
unsafe extern "C" {}

/// Hands out one piece of memory from front to back and takes nothing back.
struct Once;

const MEMORY: usize = 256 * 1024;

#[repr(align(16))]
struct Memory(core::cell::UnsafeCell<[u8; MEMORY]>);

// SAFETY: each byte is handed out once.
unsafe impl Sync for Memory {}

static BYTES: Memory = Memory(core::cell::UnsafeCell::new([0; MEMORY]));
static USED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: pieces are aligned, inside of the memory, and never overlap, since the counter only grows.
unsafe impl GlobalAlloc for Once {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > 16 {
            return core::ptr::null_mut();
        }
        let size = layout.size().next_multiple_of(16);
        let start = USED.fetch_add(size, Ordering::Relaxed);
        if start + size > MEMORY {
            return core::ptr::null_mut();
        }
        // SAFETY: start is inside of the memory, as was just checked.
        unsafe { BYTES.0.get().cast::<u8>().add(start) }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Once = Once;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// Named by the precompiled parts of alloc, never called: panics abort.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() {}

#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    let now = Now {
        monotonic: Instant::ZERO,
        unix: UnixTime::from_secs(1_800_000_000),
    };
    let (local, peer) = (
        Keypair::from_secret(&[1; 32]).node_id(),
        Keypair::from_secret(&[2; 32]).node_id(),
    );
    let mut machine = Kademlia::new(local, Arc::new(Config::default()), 7, now);
    let mut outbox = Outbox::new();
    let contacts = alloc::vec![Contact::new(peer, 2u32)];
    let command = Command::Bootstrap { contacts };
    machine.handle(
        now,
        Input::Command {
            query: QueryId(1),
            command,
        },
        &mut outbox,
    );
    let asks = matches!(outbox.pop(), Some(Output::Request { to, .. }) if to.id == peer);
    let from = Contact::new(peer, 2);
    let (read_only, reply_to, request) = (true, ReplyId(1), Request::Ping);
    machine.handle(
        now,
        Input::Request {
            from,
            read_only,
            reply_to,
            request,
        },
        &mut outbox,
    );
    let answers = matches!(outbox.pop(), Some(Output::Response { .. }));
    i32::from(!(asks && answers && machine.poll_timeout().is_some()))
}
