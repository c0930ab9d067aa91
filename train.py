from emitter.app.programs import train

if __name__ == "__main__":
    train()
