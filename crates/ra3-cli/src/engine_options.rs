//! The engine, as options of a command; in a run file it is the section `[engine]`.

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use ra3_bench::Precision;
use ra3_run::run_file::{DeviceName, EngineSection, Sharding, TorchSection};
use serde::de::value::{Error, StringDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

/// An engine, and where it is.
#[derive(Debug, Args)]
pub(crate) struct EngineOptions {
    /// What runs the model: this program, or PyTorch beside it.
    #[arg(long, default_value = "native", value_parser = ["native", "torch"])]
    pub(crate) engine: String,
    /// The Python that has torch and transformers.
    #[arg(long, default_value = "python3")]
    pub(crate) python: String,
    /// Where PyTorch has its models; `auto` is a GPU where there is one.
    #[arg(long, default_value = "auto")]
    #[arg(value_parser = one_of::<DeviceName>(&["auto", "cpu", "cuda"]))]
    pub(crate) device: DeviceName,
    /// What PyTorch's passes are computed in.
    #[arg(long, default_value = "float32")]
    #[arg(value_parser = one_of::<Precision>(&["float32", "bfloat16"]))]
    pub(crate) dtype: Precision,
    /// Processes of PyTorch, on a GPU of their own each; the document is cut into as many parts.
    #[arg(long, default_value_t = 1)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub(crate) processes: usize,
    /// What each of them has of the model.
    #[arg(long, default_value = "none")]
    #[arg(value_parser = one_of::<Sharding>(&["none", "full"]))]
    pub(crate) sharding: Sharding,
}

impl EngineOptions {
    /// As the section of a run file.
    pub(crate) fn section(&self) -> EngineSection {
        if self.engine == "native" {
            return EngineSection::default();
        }
        EngineSection::Torch(TorchSection {
            python: self.python.clone(),
            device: self.device,
            dtype: self.dtype,
            processes: self.processes,
            sharding: self.sharding,
            ..TorchSection::default()
        })
    }
}

/// One of these names, as a run file has them.
fn one_of<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).map(|name| {
        let name: StringDeserializer<Error> = name.into_deserializer();
        T::deserialize(name).expect("clap lets nothing else through")
    })
}

/// Precision of the operands of matrix products.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum Compute {
    /// Single precision.
    Float32,
    /// Half the digits, where the processor has instructions for it in half the time.
    Bfloat16,
}

impl Compute {
    pub(crate) fn precision(self) -> Precision {
        match self {
            Self::Float32 => Precision::Float32,
            Self::Bfloat16 => Precision::Bfloat16,
        }
    }
}
