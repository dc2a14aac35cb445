//! Compiles protobuf files to a descriptor set: `protoc -o <file> -I <folder> <file>.proto…`.
//!
//! Only what prost-build asks of protoc. `--include_imports` and `--include_source_info` are always on.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use protox::Compiler;

#[derive(Default)]
struct Arguments {
    output: Option<PathBuf>,
    includes: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Arguments {
    /// Reads the arguments; the error names one that is not known or has no value.
    fn parse(mut given: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut parsed = Self::default();
        while let Some(argument) = given.next() {
            let mut value = || {
                let value = given.next().map(PathBuf::from);
                value.ok_or_else(|| format!("{} needs a value", argument.display()))
            };
            match argument.to_str() {
                Some("-o") => parsed.output = Some(value()?),
                Some("-I") => parsed.includes.push(value()?),
                Some("--include_imports" | "--include_source_info") => {}
                Some(flag) if flag.starts_with('-') => return Err(format!("{flag} is not known")),
                _ => parsed.files.push(argument.into()),
            }
        }
        Ok(parsed)
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse(std::env::args_os().skip(1))?;
    let output = arguments.output.ok_or("-o is missing")?;
    let mut compiler = Compiler::new(arguments.includes)?;
    compiler.include_imports(true).include_source_info(true).open_files(arguments.files)?;
    std::fs::write(output, compiler.encode_file_descriptor_set())?;
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("protoc: {error}");
            ExitCode::FAILURE
        }
    }
}
