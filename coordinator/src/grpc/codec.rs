//! Messages as the owner encoded them: what goes to many is encoded once, not once for each.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::{BufMut, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// What each direction of a call begins with, bytes: enough for shares and their acknowledgements,
/// which is what sessions carry. Thousands are open, and larger messages grow it.
const BUFFER: usize = 512;
/// Messages that wait together are written together, up to so many bytes.
const WRITTEN_AT_ONCE: usize = 32 << 10;

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER, WRITTEN_AT_ONCE)
}

/// Decodes requests, and passes on encoded answers.
pub(super) struct Encoded<M>(PhantomData<M>);

impl<M> Default for Encoded<M> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<M: Message + Default + 'static> Codec for Encoded<M> {
    type Encode = Bytes;
    type Decode = M;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<M: Send> Encoder for Encoded<M> {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

impl<M: Message + Default> Decoder for Encoded<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        let message = M::decode(buffer);
        // Without a source: this is how a session tells it from a failed connection.
        message
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}
