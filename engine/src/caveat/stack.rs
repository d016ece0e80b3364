//! A stack of its own for work that recurses as deep as its input is long.

use std::thread::Builder;

/// Why work on a stack of its own came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StackError {
    /// The system gave no thread, or no memory for its stack.
    Refused,
    /// The work panicked.
    Panicked,
}

/// Does `work` on a thread of its own, whose stack has room for `stack_bytes`, and answers what it comes to. The caller's thread rests
/// meanwhile. Memory is taken for what of the stack is used, and given back.
pub(super) fn on_own_stack<T: Send>(
    stack_bytes: usize,
    work: impl FnOnce() -> T + Send,
) -> Result<T, StackError> {
    std::thread::scope(|scope| {
        let thread = Builder::new()
            .name("expression".to_owned())
            .stack_size(stack_bytes)
            .spawn_scoped(scope, work)
            .map_err(|_| StackError::Refused)?;
        thread.join().map_err(|_| StackError::Panicked)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_the_caller() {
        assert_eq!(on_own_stack(1 << 20, || 7), Ok(7));
        let panicked: Result<u8, _> = on_own_stack(1 << 20, || panic!("as it should"));
        assert_eq!(panicked, Err(StackError::Panicked));
    }

    #[test]
    fn a_stack_that_cannot_be_had_is_an_error() {
        assert_eq!(on_own_stack(1 << 60, || ()), Err(StackError::Refused));
    }
}
