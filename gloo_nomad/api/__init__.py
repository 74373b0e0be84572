"""The contract: kinds, references, the codec, and the messages generated from ``proto/``. No logic lives here."""
