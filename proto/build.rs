//! Compiles the protobuf schema, without an installed protoc, and only if the wire is asked for.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=schema");
    #[cfg(feature = "wire")]
    compile_schema()?;
    Ok(())
}

#[cfg(feature = "wire")]
fn compile_schema() -> Result<(), Box<dyn Error>> {
    let files = protox::compile(["tutti/v1/pool.proto"], ["schema"])?;
    tonic_prost_build::configure()
        // Slices of the received message instead of a copy for each key, nonce and hash.
        .bytes(".")
        .build_client(true)
        .build_server(true)
        .compile_fds(files)?;
    Ok(())
}
