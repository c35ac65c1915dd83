//! Ctrl-C.
//!
//! Work that can be stopped in an orderly way takes a [`Guard`]: the first Ctrl-C only asks it to stop, the second ends the
//! program. Outside of such work Ctrl-C ends the program at once, as it does anywhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use qwgpu_model::CancelHandle;

/// What a shell expects of a program that SIGINT ended.
pub(crate) const EXIT_CODE: u8 = 130;

static GUARDED: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);
static CANCEL: Mutex<Option<CancelHandle>> = Mutex::new(None);

fn cancel_handle() -> MutexGuard<'static, Option<CancelHandle>> {
    CANCEL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes over Ctrl-C for the rest of the program.
///
/// # Errors
/// What the system said.
pub(crate) fn install() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if !GUARDED.load(Ordering::SeqCst) || ASKED.swap(true, Ordering::SeqCst) {
            eprintln!();
            std::process::exit(EXIT_CODE.into());
        }
        if let Some(cancel) = cancel_handle().as_ref() {
            cancel.cancel();
        }
    })
}

/// Whether Ctrl-C was pressed since the latest [`Guard`] was taken.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// While it lives, Ctrl-C asks instead of ending the program. There is one at a time.
#[derive(Debug)]
pub(crate) struct Guard;

impl Guard {
    /// For work that looks at [`asked`] now and then.
    pub(crate) fn new() -> Self {
        ASKED.store(false, Ordering::SeqCst);
        GUARDED.store(true, Ordering::SeqCst);
        Self
    }

    /// For a generation, which Ctrl-C cancels through its session's handle.
    pub(crate) fn cancelling(cancel: CancelHandle) -> Self {
        *cancel_handle() = Some(cancel);
        Self::new()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        GUARDED.store(false, Ordering::SeqCst);
        *cancel_handle() = None;
    }
}
