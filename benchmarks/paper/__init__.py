"""The paper's figures on a base model, compared with the methods that people use today."""
