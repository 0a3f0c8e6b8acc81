"""What platforms publish to inquiries.v1: facts in lines or documents, checked before they are sent, and sent as a whole."""
