//! What becomes of an engine error on its way to the command line: a gRPC code for programs that
//! only know gRPC, the errno beside it, and the text. `client.rs` turns it back.

use crate::bridge::CallError;
use cairn_engine::error::FsError;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// The metadata key that carries the errno.
pub(crate) const ERRNO_KEY: &str = "cairn-errno";

const EAGAIN: i32 = 11;
const EBUSY: i32 = 16;
const EINVAL: i32 = 22;
const ESHUTDOWN: i32 = 108;

pub(crate) fn of_call(error: CallError) -> Status {
    match error {
        CallError::Fs(error) => with_errno(code(error), error.errno(), error.to_string()),
        CallError::Busy => with_errno(
            Code::ResourceExhausted,
            EAGAIN,
            "too many control calls wait for this shard".into(),
        ),
        CallError::Gone => {
            with_errno(Code::Unavailable, ESHUTDOWN, "the daemon is shutting down".into())
        }
    }
}

/// The request itself makes no sense.
pub(crate) fn invalid(text: &str) -> Status {
    with_errno(Code::InvalidArgument, EINVAL, text.into())
}

/// An answer of another kind than the request's: `answer.rs` does not match `request.rs`.
pub(crate) fn unexpected() -> Status {
    of_call(CallError::Gone)
}

/// What is asked for does not exist.
pub(crate) fn missing(errno: i32, text: &str) -> Status {
    with_errno(Code::NotFound, errno, text.into())
}

/// What is asked for is there already.
pub(crate) fn taken(errno: i32, text: &str) -> Status {
    with_errno(Code::AlreadyExists, errno, text.into())
}

/// What is asked for is there no more.
pub(crate) fn stale(errno: i32, text: String) -> Status {
    with_errno(Code::OutOfRange, errno, text)
}

/// This daemon does not do that.
pub(crate) fn denied(errno: i32, text: &str) -> Status {
    with_errno(Code::PermissionDenied, errno, text.into())
}

/// It cannot be done now.
pub(crate) fn unavailable(errno: i32, text: String) -> Status {
    with_errno(Code::Unavailable, errno, text)
}

/// Somebody else does it already.
pub(crate) fn in_use(text: &str) -> Status {
    unavailable(EBUSY, text.into())
}

fn with_errno(code: Code, errno: i32, text: String) -> Status {
    let mut status = Status::new(code, text);
    status.metadata_mut().insert(ERRNO_KEY, MetadataValue::from(errno));
    status
}

fn code(error: FsError) -> Code {
    match error {
        FsError::NotFound | FsError::Stale | FsError::NoXattr => Code::NotFound,
        FsError::Exists => Code::AlreadyExists,
        FsError::Access | FsError::Permission | FsError::ReadOnly => Code::PermissionDenied,
        FsError::NameTooLong
        | FsError::Invalid
        | FsError::TooBig
        | FsError::XattrTooBig
        | FsError::XattrNameTooLong
        | FsError::XattrTags
        | FsError::BadPosition
        | FsError::VersionAhead => Code::InvalidArgument,
        FsError::NotDirectory
        | FsError::IsDirectory
        | FsError::NotEmpty
        | FsError::TooManyLinks
        | FsError::VersionMismatch
        | FsError::FixityMismatch
        | FsError::HasData
        | FsError::NotOffline
        | FsError::GuardMismatch => Code::FailedPrecondition,
        FsError::XattrNamespace | FsError::XattrIndex => Code::Unimplemented,
        FsError::Trimmed { .. } => Code::OutOfRange,
        FsError::NoSpace | FsError::TooManyConsumers => Code::ResourceExhausted,
        FsError::Offline | FsError::Busy => Code::Unavailable,
        error if error.is_full_below() => Code::ResourceExhausted,
        FsError::Media { .. } | FsError::Corrupt { .. } | FsError::Stopped => Code::DataLoss,
    }
}
