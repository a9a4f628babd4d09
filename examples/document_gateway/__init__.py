"""The application that a person's browser meets: trades a link with a token for a document, once."""
