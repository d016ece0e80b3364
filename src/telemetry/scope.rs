//! The request that a thread is at work on: the log lines that it leaves meanwhile carry the request's fields.
//!
//! A span of `tracing` does the same, but costs each request several microseconds whether it logs anything or not.
//! Such spans are opened only while they are sent somewhere.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::http::Method;
use tracing::Instrument;
use uuid::Uuid;

thread_local! {
    static CURRENT: Cell<Option<Arc<LogScope>>> = const { Cell::new(None) };
}

/// What the log lines of one request have in common.
#[derive(Debug)]
pub struct LogScope {
    request_id: Box<str>,
    method: Method,
    path: Box<str>,
    started: Instant,
    vault: OnceLock<(Uuid, Uuid)>,
}

/// A future whose log lines belong to a request.
#[derive(Debug)]
pub struct Within<F> {
    scope: Arc<LogScope>,
    future: F,
}

/// Puts back, even in a panic, what was there before.
struct Restore(Option<Arc<LogScope>>);

impl LogScope {
    /// The scope of a request whose vault is not known yet.
    pub fn new(request_id: &str, method: Method, path: &str) -> Self {
        Self {
            request_id: request_id.into(),
            method,
            path: path.into(),
            started: Instant::now(),
            vault: OnceLock::new(),
        }
    }

    /// The request's id.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// When the request arrived.
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// The request that the present thread is at work on.
    pub fn current() -> Option<Arc<Self>> {
        let scope = CURRENT.take();
        CURRENT.set(scope.clone());
        scope
    }

    /// Makes the log lines of `work` those of the request.
    pub fn during<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        let _restore = Restore(CURRENT.replace(Some(Arc::clone(self))));
        work()
    }

    /// Adds the vault that the request is about, and its account. A request has but one.
    pub fn set_vault(&self, vault: Uuid, account: Uuid) {
        let _ = self.vault.set((vault, account));
    }

    /// Makes the log lines of `future` those of the request. What it spawns on other tasks is on its own.
    pub const fn around<F: Future + Unpin>(self: Arc<Self>, future: F) -> Within<F> {
        Within { scope: self, future }
    }

    /// Makes the log lines of `work` those of the present request, if there is one, and its spans too, whatever thread it goes on.
    pub fn carried<T>(work: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        let scope = Self::current();
        let mut work = Box::pin(work.in_current_span());
        poll_fn(move |task| match &scope {
            Some(scope) => scope.during(|| work.as_mut().poll(task)),
            None => work.as_mut().poll(task),
        })
    }

    /// Hands the fields of the present request, if there is one, to `add`.
    pub(super) fn each_field(mut add: impl FnMut(&'static str, &str)) {
        // It is away meanwhile, so what `add` itself may log has no request.
        let Some(scope) = CURRENT.take() else { return };
        add("request_id", &scope.request_id);
        add("method", scope.method.as_str());
        add("path", &scope.path);
        if let Some((vault, account)) = scope.vault.get() {
            let mut text = Uuid::encode_buffer();
            add("vault", vault.hyphenated().encode_lower(&mut text));
            add("account", account.hyphenated().encode_lower(&mut text));
        }
        CURRENT.set(Some(scope));
    }
}

impl<F: Future + Unpin> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { scope, future } = &mut *self;
        scope.during(|| Pin::new(future).poll(context))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::task::Waker;

    use super::*;

    fn fields() -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        LogScope::each_field(|name, value| fields.push((name, value.to_owned())));
        fields
    }

    fn poll<T>(future: impl Future<Output = T> + Unpin, id: &str) -> Poll<T> {
        let scope = Arc::new(LogScope::new(id, Method::GET, "/x"));
        scope.set_vault(Uuid::nil(), Uuid::max());
        let mut within = scope.around(future);
        Pin::new(&mut within).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn lines_within_have_the_fields_and_lines_after_do_not() {
        assert_eq!(fields(), []);
        let Poll::Ready(seen) = poll(std::future::poll_fn(|_| Poll::Ready(fields())), "r-1") else {
            panic!("it was ready")
        };
        let expected = [
            ("request_id", "r-1"),
            ("method", "GET"),
            ("path", "/x"),
            ("vault", "00000000-0000-0000-0000-000000000000"),
            ("account", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
        ];
        assert_eq!(seen, expected.map(|(name, value)| (name, value.to_owned())));
        assert!(poll(std::future::pending::<()>(), "r-2").is_pending());
        assert_eq!(fields(), [], "between two polls the thread is somebody else's");
    }

    #[test]
    fn work_is_carried_to_another_thread_with_its_fields() {
        let carry = || LogScope::carried(std::future::poll_fn(|_| Poll::Ready(fields())));
        type Carried = Pin<Box<dyn Future<Output = Vec<(&'static str, String)>> + Send>>;
        let run = |mut work: Carried| {
            let run = move || work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let Ok(Poll::Ready(seen)) = std::thread::spawn(run).join() else {
                panic!("it was ready")
            };
            seen
        };
        let Poll::Ready(work) = poll(std::future::poll_fn(|_| Poll::Ready(Box::pin(carry()))), "r-4") else {
            panic!("it was ready")
        };
        assert_eq!(run(work)[0], ("request_id", "r-4".to_owned()));
        assert_eq!(run(Box::pin(carry())), [], "outside of a request there are none");
    }

    #[test]
    fn scopes_nest_and_a_panic_ends_one() {
        let nested = std::future::poll_fn(|_| {
            let inner = poll(std::future::poll_fn(|_| Poll::Ready(fields())), "inner");
            assert!(matches!(inner, Poll::Ready(seen) if seen[0].1 == "inner"));
            Poll::Ready(fields())
        });
        assert!(matches!(poll(nested, "outer"), Poll::Ready(seen) if seen[0].1 == "outer"));
        let panics = std::future::poll_fn(|_| -> Poll<()> { panic!("as it may") });
        assert!(catch_unwind(AssertUnwindSafe(|| poll(panics, "r-3"))).is_err());
        assert_eq!(fields(), []);
    }
}
