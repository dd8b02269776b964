//! The port mapper, version 2, on the wire (RFC 1833, section 3), as much of it as a client needs to
//! find NFS and MOUNT here. SET, UNSET and CALLIT are not answered: nobody registers with us.

use crate::wire::Args;
use cairn_net::xdr::{Decoder, Encoder, XdrError};

pub const PROGRAM: u32 = 100_000;
pub const VERSION: u32 = 2;

/// `protocol` of a mapping: the IP protocol number.
pub const TCP: u32 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortmapProcedure {
    Null,
    Getport,
    Dump,
}

impl PortmapProcedure {
    pub fn parse(number: u32) -> Option<Self> {
        match number {
            0 => Some(PortmapProcedure::Null),
            3 => Some(PortmapProcedure::Getport),
            4 => Some(PortmapProcedure::Dump),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub program: u32,
    pub version: u32,
    pub protocol: u32,
    /// Means nothing in the arguments of GETPORT.
    pub port: u32,
}

impl<'a> Args<'a> for Mapping {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        Ok(Mapping {
            program: from.u32()?,
            version: from.u32()?,
            protocol: from.u32()?,
            port: from.u32()?,
        })
    }
}

/// The result of GETPORT; `None`, sent as port 0, is a program that is not here.
pub fn encode_port(to: &mut Encoder, port: Option<u16>) {
    to.u32(port.map_or(0, u32::from));
}

pub fn encode_mappings(to: &mut Encoder, mappings: impl IntoIterator<Item = Mapping>) {
    for mapping in mappings {
        to.bool(true);
        to.u32(mapping.program);
        to.u32(mapping.version);
        to.u32(mapping.protocol);
        to.u32(mapping.port);
    }
    to.bool(false);
}
