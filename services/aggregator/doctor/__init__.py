"""Why a rate is 0 or missing: facts by SQL (evidence), causes by conditions (symptoms, causes), stored texts (diagnosis)."""
