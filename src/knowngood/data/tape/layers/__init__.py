"""What a picture is made of, from the back to the front: tape, pocket, body, cathode lines, marking, leads, optics."""
