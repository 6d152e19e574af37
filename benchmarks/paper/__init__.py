"""The paper's figures on a base model, beside the methods that people use today."""
