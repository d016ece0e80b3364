//! Bodies of requests on their way in: nothing of one is held before its sender's token was found good, and no more than there is room for.

use std::future::Future;
use std::mem;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::Bytes;
use actix_web::{Error, FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use futures_util::{Stream, StreamExt};

use super::App;
use super::bodies::{FREE_BYTES, Room};
use super::caller::Caller;
use super::problem::Problem;
use super::request::problem_of;

/// A refused body of no more is read on, unheld, so that its connection can be used again, in bytes. One that is larger ends it.
const DRAINED_BYTES: usize = 64 << 10;
/// For how long that is done.
const DRAINED_FOR: Duration = Duration::from_secs(1);

/// A request's body, and who sent it.
pub struct Received {
    /// Who calls.
    pub caller: Caller,
    /// The body.
    pub bytes: Held,
}

/// A body, and the room that it takes: wherever it goes, that is taken until it is dropped.
pub struct Held {
    bytes: Bytes,
    _room: Option<Room>,
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body that is being received.
pub enum Receiving {
    /// From a caller who is known.
    Known(Reading),
    /// From one whose token has yet to be verified, or who is refused.
    Slow(LocalBoxFuture<'static, Result<Received, Problem>>),
}

/// A body of which some is here.
pub struct Reading {
    request: HttpRequest,
    payload: Payload,
    caller: Option<Caller>,
    held: Here,
    /// What the sender says it comes to.
    length: Option<usize>,
    most: usize,
    room: Option<Room>,
}

/// What is here of a body. Most come in one piece, which is taken as it is.
enum Here {
    Nothing,
    Piece(Bytes),
    Pieces(Vec<u8>),
}

impl FromRequest for Received {
    type Error = Problem;
    type Future = Receiving;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let payload = payload.take();
        let Some(app) = request.app_data::<web::Data<App>>() else {
            return refused(request, payload, super::request::internal_error());
        };
        match Caller::known(app, request) {
            Ok(Some(caller)) => Reading::begin(app, request, payload, caller),
            Ok(None) => {
                let (app, request) = (app.clone(), request.clone());
                Receiving::Slow(Box::pin(async move {
                    match Caller::verified(&app, &request).await {
                        Ok(caller) => Reading::begin(&app, &request, payload, caller).await,
                        Err(problem) => refused(&request, payload, problem).await,
                    }
                }))
            }
            Err(problem) => refused(request, payload, problem),
        }
    }
}

impl Future for Receiving {
    type Output = Result<Received, Problem>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match this {
                Self::Slow(work) => return work.as_mut().poll(context),
                Self::Known(reading) => match ready!(reading.poll_all(context)) {
                    Ok(received) => return Poll::Ready(Ok(received)),
                    Err(problem) => {
                        let payload = mem::replace(&mut reading.payload, Payload::None);
                        *this = refused(&reading.request, payload, problem);
                    }
                },
            }
        }
    }
}

impl Reading {
    fn begin(app: &App, request: &HttpRequest, payload: Payload, caller: Caller) -> Receiving {
        let (length, most) = (length_of(request), app.settings.max_body_bytes);
        if length.is_some_and(|length| length > most) {
            return refused(request, payload, too_large());
        }
        Receiving::Known(Self {
            request: request.clone(),
            payload,
            caller: Some(caller),
            held: Here::Nothing,
            length,
            most,
            room: None,
        })
    }

    fn poll_all(&mut self, context: &mut Context<'_>) -> Poll<Result<Received, Problem>> {
        loop {
            match ready!(Pin::new(&mut self.payload).poll_next(context)) {
                Some(Ok(piece)) => {
                    if let Err(problem) = self.take(piece) {
                        return Poll::Ready(Err(problem));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(problem_of(&Error::from(error)))),
                None => return Poll::Ready(self.finish()),
            }
        }
    }

    fn take(&mut self, piece: Bytes) -> Result<(), Problem> {
        let here = self.held.as_slice().len();
        let bytes = here.saturating_add(piece.len());
        if bytes > self.most {
            return Err(too_large());
        }
        if here == 0 {
            self.make_room(bytes)?;
            self.held = Here::Piece(piece);
            return Ok(());
        }
        let has = match &self.held {
            Here::Pieces(held) => held.capacity(),
            Here::Nothing | Here::Piece(_) => 0,
        };
        if has < bytes {
            // Not at once as much as its sender says it comes to: that is easily said.
            let all = self.length.unwrap_or(self.most);
            let wanted = here.saturating_mul(2).min(all).max(bytes);
            self.make_room(wanted)?;
            let mut grown = Vec::with_capacity(wanted);
            grown.extend_from_slice(self.held.as_slice());
            self.held = Here::Pieces(grown);
        }
        if let Here::Pieces(held) = &mut self.held {
            held.extend_from_slice(&piece);
        }
        Ok(())
    }

    fn make_room(&mut self, bytes: usize) -> Result<(), Problem> {
        if bytes <= FREE_BYTES {
            return Ok(());
        }
        let app = self.request.app_data::<web::Data<App>>();
        let room = match (&mut self.room, app) {
            (Some(room), _) => room,
            (none, Some(app)) => {
                let account = self.caller.as_ref().and_then(Caller::account);
                none.insert(app.bodies.room(account))
            }
            (None, None) => return Ok(()),
        };
        Ok(room.grow_to(bytes - FREE_BYTES)?)
    }

    fn finish(&mut self) -> Result<Received, Problem> {
        let caller = self.caller.take().ok_or_else(super::request::internal_error)?;
        let bytes = match mem::replace(&mut self.held, Here::Nothing) {
            Here::Nothing => Bytes::new(),
            Here::Piece(piece) => piece,
            Here::Pieces(pieces) => Bytes::from(pieces),
        };
        let bytes = Held {
            bytes,
            _room: self.room.take(),
        };
        Ok(Received { caller, bytes })
    }
}

impl Here {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::Piece(piece) => piece,
            Self::Pieces(pieces) => pieces,
        }
    }
}

/// Answers with `problem`; a connection that is closed over unread bytes cannot be used again, so a small body is read on.
fn refused(request: &HttpRequest, mut payload: Payload, problem: Problem) -> Receiving {
    let is_small = length_of(request).is_some_and(|length| length <= DRAINED_BYTES);
    Receiving::Slow(Box::pin(async move {
        if is_small {
            let reading = async { while let Some(Ok(_)) = payload.next().await {} };
            let _ = tokio::time::timeout(DRAINED_FOR, reading).await;
        }
        Err(problem)
    }))
}

fn length_of(request: &HttpRequest) -> Option<usize> {
    let length = request.headers().get(CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

fn too_large() -> Problem {
    super::request::problem_of_status(StatusCode::PAYLOAD_TOO_LARGE)
}
